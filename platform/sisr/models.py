"""Generators as files that anybody may load: `generator.safetensors` and `config.json`, never a pickle."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as save_bytes
from torch import nn

from sisr import recipes
from sisr.config import build
from sisr.errors import CheckpointError, ConfigError

WEIGHTS = "generator.safetensors"
CONFIG = "config.json"
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
        meta: At least `recipe`, `config` (the recipe's full settings) and `scale`; must be JSON.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_weights(folder / WEIGHTS, generator, None)
    (folder / CONFIG).write_text(json.dumps({"format": FORMAT, **meta}, indent=1, sort_keys=True) + "\n")


def save_alone(path: Path, generator: nn.Module, meta: dict[str, Any]) -> None:
    """Write weights and `meta` into the one file `path`; arguments as in `save`."""
    _write_weights(path, generator, {"format": "pt", **described(meta)})


def described(meta: dict[str, Any]) -> dict[str, str]:
    """Return `meta` as the texts that go into a file with a model: for people each by its name, for `load` together."""
    short: dict[str, str] = {name: str(meta[name]) for name in SHORT if name in meta}
    return {**short, EMBEDDED: json.dumps({"format": FORMAT, **meta}, sort_keys=True)}


def load(path: Path, *, name: str | None = None) -> Model:
    """Return the model saved in the folder `path`, in the one file `path`, or beside the weights file `path`.

    Raises:
        CheckpointError: A file is missing, damaged, or does not fit the recipe's generator.
    """
    folder = path if path.is_dir() else path.parent
    weights = folder / WEIGHTS if path.is_dir() else path
    embedded = None if path.is_dir() else _embedded(path)
    meta = _read_config(folder / CONFIG) if embedded is None else _parsed(embedded, path)
    try:
        module = recipes.load(meta["recipe"])
        generator = module.generator(build(module.Config, meta["config"], source=str(folder / CONFIG)))
    except ConfigError as error:
        raise CheckpointError(f"{folder / CONFIG} describes no generator that this version knows: {error}") from error
    try:
        generator.load_state_dict(load_file(weights))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{weights} can't be read as safetensors: {error}") from error
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{weights} does not fit recipe '{meta['recipe']}' as configured: {reason}") from error
    return Model(name or folder.name, generator.float().eval(), int(meta["scale"]), meta)


def find(spec: str, runs: Path) -> Path:
    """Return the model folder or weights file that `spec` names.

    Args:
        spec: A run's name under `runs` or its folder (its final model, else its best, else its newest checkpoint), a
            checkpoint folder, a model folder, or a weights file ending in .safetensors.
        runs: The folder that holds the runs.

    Raises:
        CheckpointError: There is nothing to load; the message says where was looked.
    """
    if not spec:
        raise CheckpointError("a model's name is empty; name a run, a folder or a weights file")
    path = Path(spec)
    if path.suffix == ".safetensors" and path.is_file():
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


def _embedded(weights: Path) -> str | None:
    """Return the configuration that a weights file itself holds; None: it lies beside it.

    Raises:
        CheckpointError: The file is damaged, or there is no configuration at all.
    """
    try:
        with safe_open(weights, "pt") as file:
            text: str | None = (file.metadata() or {}).get(EMBEDDED)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{weights} can't be read as safetensors: {error}") from error
    if text is None and not (weights.parent / CONFIG).is_file():
        raise CheckpointError(
            f"{weights} needs the {CONFIG} that was saved beside it; there is none in {weights.parent}"
        )
    return text


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
