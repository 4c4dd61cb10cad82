"""The files of one checkpoint: written in one pass over the state, loaded only if the manifest agrees with them.

A checkpoint is one folder: `state.pt` (everything a resumed run needs), the EMA generator as `generator.safetensors`
with its `config.json` (what others may load), and `manifest.json`, written last, with the size and SHA-256 of each.
"""

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import torch

from sisr.errors import CheckpointError
from sisr.training.digest import digest

STATE = "state.pt"
MANIFEST = "manifest.json"
FORMAT = 4  # of state and manifest; each earlier number has a reader in READERS


def write(
    folder: Path, step: int, state: dict[str, Any], write_model: Callable[[Path], object], meta: dict[str, Any]
) -> None:
    """Fill an empty folder; see `sisr.training.checkpoint.Checkpoints.save`. Raises OSError."""
    with open(folder / STATE, "wb", buffering=0) as file:
        hashed = _HashedFile(file)
        torch.save({**state, "format": FORMAT}, cast(IO[bytes], hashed))
    if hashed.error is not None:
        raise hashed.error
    write_model(folder)
    files = {f.name: _entry(f) for f in sorted(folder.iterdir()) if f.name != STATE}
    files[STATE] = {"bytes": hashed.bytes, "sha256": hashed.sha.hexdigest()}
    manifest = {"format": FORMAT, "step": step, "digest": digest(state), "files": files, **meta}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


class _HashedFile:
    """A file as torch.save wants it, which keeps its first error: torch's own for a full disk has no errno."""

    def __init__(self, file: io.RawIOBase) -> None:
        self._file, self.sha, self.bytes = file, hashlib.sha256(), 0
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        rest = memoryview(data).cast("B")
        self.sha.update(rest)
        self.bytes += len(rest)
        try:
            while rest and self.error is None:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self.error = error
        return len(data)

    def flush(self) -> None:
        """Do nothing: nothing is buffered."""


def load_state(folder: Path) -> dict[str, Any]:
    """Return the state saved in a checkpoint folder after verifying every file.

    Raises:
        CheckpointError: A file is missing, damaged or not what the manifest says.
    """
    manifest = verify(folder)
    try:
        state = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for the same thing
        raise CheckpointError(f"{folder / STATE} can't be loaded: {error}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{folder / STATE} holds a {type(state).__name__}, not a run's state")
    state.pop("format", None)
    return READERS[manifest["format"]](state)


def _from_1(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state of format 1, which bore no number, as one of today; the guard's part was smaller at first."""
    others = state.get("others", {})
    guard = {"good": [], "streak": 0, "began": 0, **others.get("guard", {})}
    return _from_2({**state, "others": {**others, "guard": guard}})


def _from_2(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state of format 2 as one of today; its run goes on with the random numbers that it began with."""
    return _from_3({**state, "draws": 1})


def _from_3(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state of format 3, which did not count validations, as one of today."""
    return {**state, "unimproved": 0}


Reader = Callable[[dict[str, Any]], dict[str, Any]]
READERS: dict[int, Reader] = {1: _from_1, 2: _from_2, 3: _from_3, FORMAT: lambda state: state}


def manifest_of(folder: Path) -> dict[str, Any]:
    """Return a checkpoint's manifest, its files not verified.

    Raises:
        CheckpointError: It can't be read, or a later version wrote it.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        if (number := manifest.setdefault("format", 1)) not in READERS:
            known = ", ".join(map(str, READERS))
            raise CheckpointError(f"{folder} has format {number!r}, this version reads {known}: use a newer sisr")
        files = manifest["files"].items()
        manifest["files"] = {name: {key: entry[key] for key in ("bytes", "sha256")} for name, entry in files}
    except OSError as error:
        raise CheckpointError(f"{folder} has no readable {MANIFEST} ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder / MANIFEST} is damaged: {error!r}") from error
    return dict(manifest)


def verify(folder: Path) -> dict[str, Any]:
    """Return a checkpoint's manifest after comparing every file's size and SHA-256 with it."""
    manifest = manifest_of(folder)
    for name, expected in manifest["files"].items():
        try:
            found = _entry(folder / name)
        except OSError as error:
            raise CheckpointError(f"{folder / name} can't be read ({error.strerror})") from error
        if found != expected:
            raise CheckpointError(f"{folder / name} is damaged: its size or SHA-256 differs from {MANIFEST}")
    if STATE not in manifest["files"]:
        raise CheckpointError(f"{folder / MANIFEST} does not list {STATE}")
    return manifest


def _entry(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        sha = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": sha}
