"""Checkpoints that are complete, atomic and verified, and written while training goes on.

One checkpoint is one folder `step_000001000` (`checkpoint_files`). It appears whole or not at all (`disk.atomic`).
"""

import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sisr.disk import atomic
from sisr.errors import CheckpointError, DiskError
from sisr.training import checkpoint_files
from sisr.training.checkpoint_files import MANIFEST, load_state
from sisr.training.digest import size

MAX_FAILED_SAVES = 3  # in a row; training goes on before that, because the disk may be freed

WriteModel = Callable[[Path], object]


def folder_name(step: int) -> str:
    """Return the name of the checkpoint taken before step number `step`; names sort by step."""
    return f"step_{step:09d}"


@dataclass
class Checkpoints:
    """The checkpoints of one run, in the folder `root`; for one thread."""

    root: Path
    keep: int = 2  # newest ones kept; the best one is kept besides
    warn: Callable[[str], None] = warnings.warn
    _failures: int = field(default=0, init=False)
    _saving: "_Save | None" = field(default=None, init=False)

    def save(
        self, step: int, state: dict[str, Any], write_model: WriteModel, meta: dict[str, Any], *, last: bool = False
    ) -> bool:
        """Write the checkpoint after `step` steps and return whether it succeeded; see `begin`."""
        self.begin(step, state, write_model, meta, last=last)
        return self.finish()

    def begin(
        self,
        step: int,
        state: dict[str, Any],
        write_model: WriteModel,
        meta: dict[str, Any],
        *,
        last: bool = False,
        after: Callable[[bool], None] = lambda wrote: None,
    ) -> None:
        """Let a thread write the checkpoint after `step` steps, once it has written the one before.

        Args:
            step: Steps done.
            state: Tensors, numbers, strings, lists, tuples and dicts only, so that it loads without pickle's dangers;
                nobody else changes it. It may still be on its way from a GPU.
            write_model: Writes the files that others may load into a given folder.
            meta: Added to the manifest: worker count, versions, fingerprints.
            last: No later one will be tried.
            after: What the thread does next, given whether the checkpoint was written. Its OSError becomes a warning.

        Raises:
            DiskError: The one before could not be written, for the `MAX_FAILED_SAVES`th time in a row.
        """
        self.finish()
        self._saving = _Save(self.root, step, state, write_model, meta, last, after)

    def look(self) -> None:
        """Report a save that has ended meanwhile, as `finish` does; called now and then, waits for nothing."""
        if self._saving is not None and not self._saving.thread.is_alive():
            self.finish()

    def finish(self) -> bool:
        """Return whether the last save succeeded, once it has ended.

        Raises:
            DiskError: Writing failed `MAX_FAILED_SAVES` times in a row, or the last time.
        """
        save = self._saving
        if save is None:
            return True
        save.thread.join()
        self._saving = None
        if save.crash is not None:
            raise save.crash
        if save.failure is not None:
            self._failed(save, save.failure)
        else:
            self._failures = 0
        if save.trouble is not None:
            self.warn(f"training goes on, but {save.trouble}")
        return save.failure is None

    def close(self) -> None:
        """Let the last save end, on the way of an error that counts more than what becomes of it."""
        try:
            self.finish()
        except Exception as error:
            self.warn(str(error))

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

    def _failed(self, save: "_Save", error: OSError) -> None:
        self._failures += 1
        reason = str(error) if isinstance(error, DiskError) else error.strerror or str(error)
        needed = f"it takes about {size(save.state):,} bytes"
        message = f"the checkpoint of step {save.step} was not saved: {reason}; {needed}"
        if save.last or self._failures >= MAX_FAILED_SAVES:
            times = f" ({self._failures} times in a row)" if self._failures > 1 else ""
            raise DiskError(f"{message}{times}. Free space and run the same command again") from error
        self.warn(f"{message}; training goes on")


class _Save:
    """One checkpoint that a thread writes."""

    def __init__(
        self,
        root: Path,
        step: int,
        state: dict[str, Any],
        write_model: WriteModel,
        meta: dict[str, Any],
        last: bool,
        after: Callable[[bool], None],
    ) -> None:
        self.step, self.state, self.last = step, state, last
        self.failure: OSError | None = None  # of the checkpoint
        self.trouble: OSError | None = None  # of what comes after it
        self.crash: BaseException | None = None  # our mistake
        copied = torch.cuda.Event() if torch.cuda.is_initialized() else None
        if copied:
            copied.record()

        def work() -> None:
            try:
                if copied:
                    copied.synchronize()
                self._write(root, state, write_model, meta)
                self._then(after)
            except BaseException as error:  # handed to the caller's thread
                self.crash = error

        # A daemon: after a second Ctrl-C nobody waits, and half a checkpoint is swept away by the next start.
        self.thread = threading.Thread(target=work, name="checkpoint", daemon=True)
        self.thread.start()

    def _write(self, root: Path, state: dict[str, Any], write_model: WriteModel, meta: dict[str, Any]) -> None:
        atomic.remove_unfinished(root)
        try:
            with atomic.folder(root / folder_name(self.step)) as unfinished:
                checkpoint_files.write(unfinished, self.step, state, write_model, meta)
        except OSError as error:
            self.failure = error

    def _then(self, after: Callable[[bool], None]) -> None:
        try:
            after(self.failure is None)
        except OSError as error:
            self.trouble = error
