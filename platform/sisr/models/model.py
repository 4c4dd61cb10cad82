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
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_bytes
from torch import nn

from sisr import recipes
from sisr.config.settings import build
from sisr.errors import CheckpointError, ConfigError
from sisr.models import trust, weights, zoo

WEIGHTS = "generator.safetensors"
CONFIG = "config.json"
RECIPE = "recipe.py"
EMBEDDED = "sisr"  # what a weights file calls the content of CONFIG in its metadata
SHORT = ("recipe", "scale", "step")  # what else its metadata says, for people
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
    folder.mkdir(parents=True, exist_ok=True)
    _write_weights(folder / WEIGHTS, generator, None)
    if text:
        (folder / RECIPE).write_bytes(text.encode())
    meta = {name: value for name, value in _complete(meta).items() if name != "recipe_source"}
    (folder / CONFIG).write_text(json.dumps(meta, indent=1, sort_keys=True) + "\n")


def save_alone(path: Path, generator: nn.Module, meta: dict[str, Any]) -> None:
    """Write weights and `meta` into the one file `path`; arguments as in `save`."""
    _write_weights(path, generator, {"format": "pt", **described(meta)})


def described(meta: dict[str, Any]) -> dict[str, str]:
    """Return `meta` as the texts that go into a file with a model: for people each by its name, for `load` together."""
    short: dict[str, str] = {name: str(meta[name]) for name in SHORT if name in meta}
    return {**short, EMBEDDED: json.dumps(_complete(meta), sort_keys=True)}


def _complete(meta: dict[str, Any]) -> dict[str, Any]:
    text = meta.get("recipe_source")
    return {"format": FORMAT, **meta, **({"recipe_sha256": _sha256(text)} if text else {})}


def load(path: Path, *, name: str | None = None, allowed: Iterable[str] = ()) -> Model:
    """Return the model saved in the folder `path`, in the one file `path`, or beside the weights file `path`.

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
    embedded = _embedded(file)
    if path.is_file() and embedded is None and (path.suffix != ".safetensors" or not (folder / CONFIG).is_file()):
        return _of_others(path, name)
    source = folder / CONFIG if embedded is None else path
    meta = _read_config(source) if embedded is None else _parsed(embedded, source)
    text = _recipe_text(meta, source, allowed)
    meta |= {"recipe_source": text} if text else {}
    try:
        module = recipes.load(meta["recipe"], text, str(folder / RECIPE if embedded is None else path))
        generator = module.generator(build(module.Config, meta["config"], source=str(source)))
    except ConfigError as error:
        raise CheckpointError(f"{source} describes no generator that this version knows: {error}") from error
    except Exception as error:
        if line := recipes.blame(error, meta["recipe"], text):
            raise CheckpointError(f"{path}'s generator can't be built: recipe {line}") from error
        raise
    try:
        generator.load_state_dict(weights.read(file))
    except RuntimeError as error:
        reason = weights.misfit(weights.read(file), generator.state_dict()) or str(error).splitlines()[0]
        raise CheckpointError(f"{file} does not fit recipe '{meta['recipe']}' as configured: {reason}") from error
    return Model(name or folder.name, generator.float().eval(), int(meta["scale"]), meta)


def _of_others(path: Path, name: str | None) -> Model:
    generator = zoo.recognise(path)
    return Model(name or path.stem, generator, generator.scale, {"architecture": generator.architecture})


def _recipe_text(meta: dict[str, Any], source: Path, allowed: Iterable[str]) -> str:
    """Return the code that a model's generator needs, if it may run here; empty for a recipe of ours.

    Args:
        meta: What `source` says.
        source: A model's `CONFIG`, with the code in a file beside it; or a weights file that holds both.
        allowed: As in `load`.
    """
    name, wanted = meta["recipe"], meta.get("recipe_sha256")
    if wanted is None:
        return ""
    named = [recipes.find(spec) for spec in allowed]
    for given in named:
        # A file may have been renamed since; a module that needs its package is found by its name.
        if given.sha256 == wanted and (given.name == name or "." not in name):
            return given.text
    beside = source.with_name(RECIPE) if source.name == CONFIG else None
    text = str(meta.get("recipe_source", "")) if beside is None else _read_code(beside)
    if _sha256(text) != wanted:
        raise CheckpointError(
            f"{beside or source}: the recipe's code was changed since the model was saved: its SHA-256 is not "
            f"{wanted[:12]}..."
        )
    if not trust.is_trusted(name, text):
        others = f" (another than {', '.join(given.where for given in named)})" if named else ""
        code = f"{source.parent} needs the code in {beside}" if beside else f"{source} needs the code of its recipe"
        file = name if "." in name else beside or f"{name}.py, the file of its author's"
        raise CheckpointError(
            f"{code}{others}, which was never trained with on this machine, so it does not run by itself. "
            f"If you trust what it does, say --recipe {file}"
        )
    return text


def _read_code(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}, the code of the generator beside it, can't be read: {error}") from error


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


def _write_weights(path: Path, generator: nn.Module, metadata: dict[str, str] | None) -> None:
    state = {name: _plain(value) for name, value in generator.state_dict().items()}
    path.write_bytes(save_bytes(state, metadata))  # save_file hides "disk full" in an error of its own


def _embedded(file: Path) -> str | None:
    """Return the configuration that a weights file itself holds, or None.

    Raises:
        CheckpointError: It is damaged.
    """
    if file.suffix != ".safetensors" or not file.is_file():
        return None
    try:
        with safe_open(file, "pt") as opened:
            text: str | None = (opened.metadata() or {}).get(EMBEDDED)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} can't be read as safetensors: {error}") from error
    return text


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: torch.Tensor) -> torch.Tensor:
    value = value.detach().cpu()
    return (value.float() if value.is_floating_point() else value).contiguous()


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return _parsed(path.read_text(), path)
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror or error}") from error


def _parsed(text: str, path: Path) -> dict[str, Any]:
    """Return what `text`, found in the file `path`, says about a model."""
    try:
        meta: dict[str, Any] = json.loads(text)
        if meta["format"] != FORMAT:
            raise CheckpointError(f"{path} has format {meta['format']}; this version reads format {FORMAT}")
        for key in ("recipe", "config", "scale"):
            meta[key]
    except KeyError as error:
        raise CheckpointError(f"{path} is not a model's {CONFIG}: it lacks {error}") from error
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is not a model's {CONFIG}: {error}") from error
    return meta
