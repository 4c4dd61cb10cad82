"""Generators as files that anybody may load: `generator.safetensors` and `config.json`, never a pickle.

Beside the model of a recipe that is not one of ours lies `recipe.py`: code, which runs only where it is trusted.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_bytes
from torch import nn

from sisr import recipes, trust, weights, zoo
from sisr.config import build
from sisr.errors import CheckpointError, ConfigError

WEIGHTS = "generator.safetensors"
CONFIG = "config.json"
RECIPE = "recipe.py"
FORMAT = 1


@dataclass(frozen=True)
class Model:
    """A generator ready for inference and what is known about it."""

    name: str  # how a table calls it
    generator: nn.Module  # eval mode, float32, on the CPU: lr (n, 3, h, w) in [0, 1] -> sr, not clamped
    scale: int
    meta: dict[str, Any]  # config.json: recipe, config, step, metrics, run


def save(folder: Path, generator: nn.Module, meta: dict[str, Any]) -> None:
    """Write a generator's weights and `meta` into `folder`.

    Args:
        folder: Created where missing.
        generator: Its state dict is written as float32 (integers stay what they are).
        meta: At least `recipe`, `config` (the recipe's full settings) and `scale`; must be JSON. A `recipe_source`
            becomes a file of its own, named in the JSON by its SHA-256.
    """
    text = meta.get("recipe_source")
    meta = {name: value for name, value in meta.items() if name != "recipe_source"}
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: _plain(value) for name, value in generator.state_dict().items()}
    (folder / WEIGHTS).write_bytes(save_bytes(state))  # save_file hides "disk full" in an error of its own
    if text:
        (folder / RECIPE).write_bytes(text.encode())
        meta["recipe_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / CONFIG).write_text(json.dumps({"format": FORMAT, **meta}, indent=1, sort_keys=True) + "\n")


def load(path: Path, *, name: str | None = None, allowed: Iterable[str] = ()) -> Model:
    """Return the model saved in the folder `path`, or beside the weights file `path`.

    Args:
        path: A folder, or a weights file.
        name: How a table calls it; None: as the folder.
        allowed: Recipe files or modules whose code may run besides those that this user has trained.

    Raises:
        CheckpointError: A file is missing, damaged, does not fit the recipe's generator, or holds code that is not
            trusted.
        ConfigError: One of `allowed` can't be read.
    """
    folder = path if path.is_dir() else path.parent
    file = folder / WEIGHTS if path.is_dir() else path
    if path.is_file() and (path.suffix != ".safetensors" or not (folder / CONFIG).is_file()):
        return _of_others(path, name)
    meta = _read_config(folder / CONFIG)
    text = _recipe_text(meta, folder, allowed)
    try:
        module = recipes.load(meta["recipe"], text, str(folder / RECIPE))
        generator = module.generator(build(module.Config, meta["config"], source=str(folder / CONFIG)))
    except ConfigError as error:
        raise CheckpointError(f"{folder / CONFIG} describes no generator that this version knows: {error}") from error
    except Exception as error:
        if line := recipes.blame(error, meta["recipe"], text):
            raise CheckpointError(f"{folder}'s generator can't be built: recipe {line}") from error
        raise
    try:
        generator.load_state_dict(weights.read(file))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{file} does not fit recipe '{meta['recipe']}' as configured: {reason}") from error
    return Model(name or folder.name, generator.float().eval(), int(meta["scale"]), meta)


def _of_others(path: Path, name: str | None) -> Model:
    generator = zoo.recognise(path)
    return Model(name or path.stem, generator, generator.scale, {"architecture": generator.architecture})


def _recipe_text(meta: dict[str, Any], folder: Path, allowed: Iterable[str]) -> str:
    """Return the code that a model's generator needs, if it may run here; empty for a recipe of ours."""
    name, wanted = meta["recipe"], meta.get("recipe_sha256")
    if wanted is None:
        return ""
    named = [recipes.find(spec) for spec in allowed]
    for source in named:
        # A file may have been renamed since; a module that needs its package is found by its name.
        if source.sha256 == wanted and (source.name == name or "." not in name):
            return source.text
    path = folder / RECIPE
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}, the code of {folder}'s generator, can't be read: {error}") from error
    if hashlib.sha256(text.encode()).hexdigest() != wanted:
        raise CheckpointError(f"{path} was changed since the model was saved: its SHA-256 is not {wanted[:12]}...")
    if not trust.is_trusted(name, text):
        given = f" (another than {', '.join(source.where for source in named)})" if named else ""
        raise CheckpointError(
            f"{folder} needs the code in {path}{given}, which was never trained with on this machine, so it does not "
            f"run by itself. If you trust what it does, say --recipe {name if '.' in name else path}"
        )
    return text


def find(spec: str, runs: Path) -> Path:
    """Return the model folder or weights file that `spec` names.

    Args:
        spec: A run's name under `runs` or its folder (its final model, else its best, else its newest checkpoint), a
            checkpoint folder, a model folder, or a weights file.
        runs: The folder that holds the runs.

    Raises:
        CheckpointError: There is nothing to load; the message says where was looked.
    """
    if not spec:
        raise CheckpointError("a model's name is empty; name a run, a folder or a weights file")
    path = Path(spec)
    if path.suffix in weights.SUFFIXES and path.is_file():
        return path
    candidates = [path, runs / spec]
    for folder in candidates:
        if (folder / WEIGHTS).is_file():
            return folder
        if (folder / "run.json").is_file():
            return _of_run(folder)
    places = " or ".join(str(c) for c in candidates)
    raise CheckpointError(f"no model '{spec}': neither a run, a checkpoint nor a model folder at {places}")


def _of_run(folder: Path) -> Path:
    if (folder / "model" / WEIGHTS).is_file():
        return folder / "model"
    best = folder / "best.json"
    if best.is_file():
        kept = folder / "checkpoints" / f"step_{_best_step(best):09d}"
        if (kept / WEIGHTS).is_file():
            return kept
    saved = sorted(p.parent for p in folder.glob(f"checkpoints/step_*/{WEIGHTS}"))
    if not saved:
        raise CheckpointError(f"run {folder} has no checkpoint yet: wait for its first evaluation, or train it")
    return saved[-1]


def _best_step(path: Path) -> int:
    try:
        return int(json.loads(path.read_text())["step"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged ({error!r}): remove it to use the newest checkpoint") from error


def _plain(value: torch.Tensor) -> torch.Tensor:
    value = value.detach().cpu()
    return (value.float() if value.is_floating_point() else value).contiguous()


def _read_config(path: Path) -> dict[str, Any]:
    try:
        meta = json.loads(path.read_text())
        if meta["format"] != FORMAT:
            raise CheckpointError(f"{path} has format {meta['format']}; this version reads format {FORMAT}")
        for key in ("recipe", "config", "scale"):
            meta[key]
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror or error}") from error
    except KeyError as error:
        raise CheckpointError(f"{path} is not a model's {CONFIG}: it lacks {error}") from error
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is not a model's {CONFIG}: {error}") from error
    return meta
