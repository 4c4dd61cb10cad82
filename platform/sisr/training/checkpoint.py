"""Checkpoints that are complete, atomic and verified.

One checkpoint is one folder `step_000001000`: `state.pt` (everything a resumed run needs), the EMA generator as
`generator.safetensors` with its `config.json` (what others may load), and `manifest.json`, written last, with the size
and SHA-256 of each file. The folder appears whole or not at all (`disk.atomic`); it is loaded only if the manifest
agrees with the files.
"""

import hashlib
import io
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import torch

from sisr.disk import atomic
from sisr.errors import CheckpointError, DiskError

STATE = "state.pt"
MANIFEST = "manifest.json"
FORMAT = 2  # of state and manifest; each earlier number has a reader in READERS
MAX_FAILED_SAVES = 3  # in a row; training goes on before that, because the disk may be freed


def folder_name(step: int) -> str:
    """Return the name of the checkpoint taken before step number `step`; names sort by step."""
    return f"step_{step:09d}"


@dataclass
class Checkpoints:
    """The checkpoints of one run, in the folder `root`."""

    root: Path
    keep: int = 2  # newest ones kept; the best one is kept besides
    warn: Callable[[str], None] = warnings.warn
    _failures: int = field(default=0, init=False)

    def save(
        self,
        step: int,
        state: dict[str, Any],
        write_model: Callable[[Path], None],
        meta: dict[str, Any],
        *,
        last: bool = False,
    ) -> bool:
        """Write the checkpoint after `step` steps and return whether it succeeded.

        Args:
            step: Steps done.
            state: Tensors, numbers, strings, lists, tuples and dicts only, so that it loads without pickle's dangers.
            write_model: Writes the files that others may load into a given folder.
            meta: Added to the manifest: worker count, versions, fingerprints.
            last: No later one will be tried.

        Raises:
            DiskError: Writing failed `MAX_FAILED_SAVES` times in a row, or the last time.
        """
        atomic.remove_unfinished(self.root)
        try:
            with atomic.folder(self.root / folder_name(step)) as unfinished:
                _write(unfinished, step, state, write_model, meta)
        except OSError as error:
            self._failed(step, state, error, last)
            return False
        self._failures = 0
        return True

    def newest(self) -> tuple[Path, dict[str, Any]] | None:
        """Return folder and state of the newest checkpoint that is whole, or None where there has been none.

        Damaged ones are passed over with a warning that names them.

        Raises:
            CheckpointError: There are checkpoints, but all are damaged.
        """
        problems = []
        for folder in self.folders():
            try:
                return folder, load_state(folder)
            except CheckpointError as error:
                problems.append(str(error))
                self.warn(f"checkpoint passed over: {error}")
        if problems:
            every = f"every checkpoint in {self.root} is damaged: {'; '.join(problems)}"
            raise CheckpointError(f"{every}. Restore one or remove them all")
        return None

    def prune(self, best_step: int | None) -> None:
        """Remove all but the newest `keep` whole checkpoints and the best one."""
        whole = [f for f in self.folders() if (f / MANIFEST).is_file()]
        kept = {f.name for f in whole[: self.keep]} | ({folder_name(best_step)} if best_step is not None else set())
        for folder in whole:
            if folder.name not in kept:
                atomic.remove_folder(folder)

    def set_aside_newer(self, restored: Path | None) -> None:
        """Rename what is newer than the checkpoint that was restored: it is damaged, and must not count as kept."""
        for folder in self.folders():
            if restored is None or folder.name > restored.name:
                folder.rename(atomic.unused_name(self.root / f".damaged-{folder.name}"))

    def folders(self) -> list[Path]:
        """Return the folders of all checkpoints, damaged ones too, newest step first."""
        return sorted(self.root.glob("step_*"), reverse=True)

    def _failed(self, step: int, state: dict[str, Any], error: OSError, last: bool) -> None:
        self._failures += 1
        reason = str(error) if isinstance(error, DiskError) else error.strerror or str(error)
        size = sum(len(chunk) for chunk in _chunks(state))
        message = f"the checkpoint of step {step} was not saved: {reason}; it takes about {size:,} bytes"
        if last or self._failures >= MAX_FAILED_SAVES:
            times = f" ({self._failures} times in a row)" if self._failures > 1 else ""
            raise DiskError(f"{message}{times}. Free space and run the same command again") from error
        self.warn(f"{message}; training goes on")


def _write(
    folder: Path, step: int, state: dict[str, Any], write_model: Callable[[Path], None], meta: dict[str, Any]
) -> None:
    # torch.save to a path, or to a buffered file, hides errno in a RuntimeError.
    with open(folder / STATE, "wb", buffering=0) as file:
        torch.save({**state, "format": FORMAT}, cast(IO[bytes], _Writer(file)))
    write_model(folder)
    files = {f.name: _entry(f) for f in sorted(folder.iterdir())}
    manifest = {"format": FORMAT, "step": step, "digest": digest(state), "files": files, **meta}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


class _Writer:
    """A file as torch.save wants it, unbuffered: "disk full" arrives as the OSError that it is."""

    def __init__(self, file: io.RawIOBase) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        rest = memoryview(data).cast("B")
        while rest:
            rest = rest[self._file.write(rest) :]
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
    return {**state, "others": {**others, "guard": guard}}


READERS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1, FORMAT: lambda state: state}


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


def digest(state: Any) -> str:
    """Return the SHA-256 of a state's names, types, shapes and raw bytes; equal exactly where training is equal."""
    sha = hashlib.sha256()
    for chunk in _chunks(state):
        sha.update(chunk)
    return sha.hexdigest()


def _chunks(value: Any) -> Iterator[bytes]:
    if isinstance(value, torch.Tensor):
        tensor = value.detach().cpu().contiguous()
        yield f"tensor {tensor.dtype} {tuple(tensor.shape)} ".encode()
        yield tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    elif isinstance(value, dict):
        yield f"dict {len(value)} ".encode()
        for key in sorted(value, key=repr):
            yield repr(key).encode()
            yield from _chunks(value[key])
    elif isinstance(value, list | tuple):
        yield f"list {len(value)} ".encode()
        for item in value:
            yield from _chunks(item)
    else:
        yield repr(value).encode()


def _entry(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        sha = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": sha}
