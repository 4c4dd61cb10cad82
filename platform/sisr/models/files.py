"""A generator on disk: `generator.safetensors` and `config.json` in a folder, or one file that holds both.

Beside the model of a recipe that is not one of ours lies `recipe.py`: code, which runs only where it is trusted.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_bytes
from torch import Tensor, nn

from sisr import recipes
from sisr.config.wording import did_you_mean
from sisr.disk.run_folder import RECORD
from sisr.errors import CheckpointError
from sisr.models.weights import SUFFIXES, is_weights_file, refuse_impostors

WEIGHTS = "generator.safetensors"
CONFIG = "config.json"
RECIPE = "recipe.py"
EMBEDDED = "sisr"  # what a weights file calls the content of CONFIG in its metadata
SHORT = ("recipe", "scale", "step")  # what else its metadata says, for people
FORMAT = 1
KINDS = {"recipe": (str, "a text"), "config": (dict, "an object"), "scale": (int, "a whole number >= 1")}


def save_model(folder: Path, generator: nn.Module | Mapping[str, Tensor], meta: dict[str, Any]) -> None:
    """Write the weights of a generator (or its state dict), as float32, and `meta` into `folder`.

    Integers stay what they are.
    `meta` holds at least `recipe`, `config` (the recipe's full settings) and `scale`, and must be JSON. A
    `recipe_source` becomes a file of its own, named in the JSON by its SHA-256.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_weights(folder / WEIGHTS, generator, None)
    meta = _complete(meta)
    if text := meta.pop("recipe_source", None):
        (folder / RECIPE).write_bytes(text.encode())
    (folder / CONFIG).write_text(json.dumps(meta, indent=1, sort_keys=True) + "\n")


def save_one_file(path: Path, generator: nn.Module, meta: dict[str, Any]) -> None:
    """Write weights and `meta` into the one file `path`; arguments as in `save_model`; without `meta` weights alone."""
    _write_weights(path, generator, {"format": "pt", **(described(meta) if meta else {})})


def described(meta: dict[str, Any]) -> dict[str, str]:
    """Return `meta` as the texts that go into a file: for people each by its name, for `load_model` together."""
    short = {name: str(meta[name]) for name in SHORT if name in meta}
    return {**short, EMBEDDED: json.dumps(_complete(meta), sort_keys=True)}


def sha256(text: str) -> str:
    """Return the SHA-256 of a recipe's text, as `sha256sum` gives it for the file."""
    return hashlib.sha256(text.encode()).hexdigest()


def find_model(spec: str, runs: Path) -> Path:
    """Return the model folder or weights file that `spec` names.

    That is a run's name under `runs` or its folder (its final model, else its best, else its newest checkpoint), a
    checkpoint folder, a model folder, or a weights file.

    Raises:
        CheckpointError: There is nothing to load; the message says where was looked.
    """
    if not spec:
        raise CheckpointError("a model's name is empty; name a run, a folder or a weights file")
    path = Path(spec)
    if is_weights_file(path) and path.is_file():
        return path
    for folder in (path, runs / spec):
        if (folder / WEIGHTS).is_file():
            return folder
        if (folder / RECORD).is_file():
            return _of_run(folder)
    if spec == "bicubic":
        raise CheckpointError("bicubic is not a network: name a run, a folder or a weights file")
    if path.is_file():
        kinds = ", ".join(SUFFIXES)
        raise CheckpointError(
            f"{path} holds no weights that sisr reads ({kinds}); what `sisr export` writes as ONNX or pt2 is for other "
            "programs: name the run, or export it as safetensors"
        )
    known = sorted(folder.parent.name for folder in runs.glob(f"*/{RECORD}"))
    hint = "" if "/" in spec else did_you_mean(spec, [*known, "bicubic"])
    places = dict.fromkeys([str(path), str(runs / spec)])  # one, where the path is absolute
    what = hint or f"no run, checkpoint or model folder is at {' or '.join(places)}"
    if spec in recipes.names():
        what = f"it is a recipe's name; what was registered under it is models:/{spec}@champion, and {what}"
    raise CheckpointError(f"no model '{spec}'; {what}")


def _of_run(folder: Path) -> Path:
    if (folder / "model" / WEIGHTS).is_file():
        return folder / "model"
    best = folder / "best.json"
    if best.is_file():
        try:
            step = int(json.loads(best.read_text())["step"])
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{best} is damaged ({error!r}): remove it to use the newest checkpoint") from error
        kept = folder / "checkpoints" / f"step_{step:09d}"
        if (kept / WEIGHTS).is_file():
            return kept
    saved = sorted(p.parent for p in folder.glob(f"checkpoints/step_*/{WEIGHTS}"))
    if not saved:
        raise CheckpointError(f"run {folder} has no checkpoint yet: wait for its first evaluation, or train it")
    return saved[-1]


def embedded_meta(file: Path) -> dict[str, Any] | None:
    """Return what a weights file itself says about its model, or None; raise CheckpointError if it is damaged."""
    if file.suffix.lower() != ".safetensors" or not file.is_file():
        return None
    try:
        with safe_open(file, "pt") as opened:
            text: str | None = (opened.metadata() or {}).get(EMBEDDED)
    except (OSError, SafetensorError) as error:
        refuse_impostors(file)
        raise CheckpointError(f"{file} can't be read as safetensors: {error}") from error
    return None if text is None else _parsed(text, file)


def read_meta(path: Path) -> dict[str, Any]:
    """Return what a model's `CONFIG` says; raise CheckpointError if it is missing, damaged, or of something else."""
    return _parsed(read_text(path), path)


def read_text(path: Path) -> str:
    """Return the text of a file that belongs to a model; raise CheckpointError if it is missing, or no text."""
    try:
        return path.read_bytes().decode()
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def _parsed(text: str, path: Path) -> dict[str, Any]:
    """Return what `text`, found in the file `path`, says about a model."""
    try:
        meta: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a model's {CONFIG}: {error}") from error
    if not isinstance(meta, dict) or "format" not in meta:
        raise CheckpointError(f"{path} is not a model's {CONFIG}: it lacks 'format'")
    if meta["format"] != FORMAT:
        raise CheckpointError(f"{path} has format {meta['format']}; this version reads format {FORMAT}")
    for key, (kind, name) in KINDS.items():
        value = meta.get(key)
        if type(value) is not kind or (isinstance(value, int) and value < 1):
            given = f"is {value!r:.60}" if key in meta else "is missing"
            raise CheckpointError(f"{path} is not a model's {CONFIG}: '{key}' must be {name}, it {given}")
    for key in ("recipe_source", "recipe_sha256"):
        if not isinstance(meta.get(key, ""), str):
            raise CheckpointError(f"{path} is not a model's {CONFIG}: '{key}' must be a text, it is {meta[key]!r:.60}")
    return meta


def _complete(meta: dict[str, Any]) -> dict[str, Any]:
    text = meta.get("recipe_source")
    return {"format": FORMAT, **meta, **({"recipe_sha256": sha256(text)} if text else {})}


def _write_weights(path: Path, generator: nn.Module | Mapping[str, Tensor], metadata: dict[str, str] | None) -> None:
    given = generator.state_dict() if isinstance(generator, nn.Module) else generator
    values = {name: value.detach().cpu() for name, value in given.items()}
    state = {name: (v.float() if v.is_floating_point() else v).contiguous() for name, v in values.items()}
    path.write_bytes(save_bytes(state, metadata))  # save_file hides "disk full" in an error of its own
