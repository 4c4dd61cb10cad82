"""The folder of one run: the only place that knows its file names."""

import errno
import json
import logging
import math
import os
import re
import traceback
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from sisr.disk import atomic, lock
from sisr.errors import ConfigError, DiskError, RunLockedError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # of runs
LOCK = ".lock"
RECORD = "run.json"  # what makes a folder a run's
LOCK_PATIENCE_S = 1.0  # who only looks whether the lock is held has it for a moment
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)

_log = logging.getLogger(__name__)


def check_name(name: str) -> str:
    """Return a run's name if it is safe as a folder's name.

    Raises:
        ConfigError: It holds anything but letters, digits, '.', '_' and '-', or starts with a dot.
    """
    if not NAME.fullmatch(name) or ".." in name:
        raise ConfigError(
            f"run name {name!r} can't be used: letters, digits, '.', '_' and '-' only, at most 64, no '..', "
            "and a letter or digit first"
        )
    return name


class RunFolder:
    """The folder of one run, which need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._claimed: list[tuple[Path, int]] = []  # what `confirm` compares: paths, and what was open there
        self._unwritten: list[str] = []  # warnings for which there was no room
        self.checkpoints = path / "checkpoints"
        self.samples = path / "samples"
        self.model = path / "model"
        self.best = path / "best.json"
        self._evaluations = path / "evaluations.jsonl"
        self.init = path / "init.safetensors"  # the generator's first weights, and the judge's
        self.init_judge = path / "init_judge.safetensors"
        self.run = path / RECORD  # what is executed: `sisr.training.run` reads and writes it
        self.next_run = path / ".run.json.next"  # takes its place once a checkpoint was restored with what it says
        self._files = path / "files.json"
        self._status = path / "status.json"
        self._stop = path / ".stop"
        self._warnings = path / "warnings.log"
        self._crash = path / "crash.txt"

    def record_files(self, hashes: dict[str, str]) -> None:
        """Write down the hash of each image file, to tell later which ones have changed."""
        self.confirm()
        atomic.write_json(self._files, hashes)

    def file_hashes(self) -> dict[str, str]:
        """Return the hash of each image file that the run was started with; empty where that was not kept."""
        return _read_json(self._files)

    def write_status(self, **fields: Any) -> None:
        """Replace the run's status (state, step, rates, losses, last validation), or raise DiskError."""
        self.confirm()
        atomic.write_json(self._status, fields)

    def status(self) -> dict[str, Any]:
        """Return the last status; an empty dict where there is none, or what is there is no status."""
        return _read_json(self._status)

    def add_evaluation(self, step: int, values: dict[str, float]) -> None:
        """Append the numbers of one evaluation, and warnings for which there was no room before."""
        self.confirm()
        if self._unwritten:
            self._write_warnings()
        with open(self._evaluations, "a") as file:
            file.write(json.dumps({"step": step, "values": values}) + "\n")

    def evaluations(self) -> list[tuple[int, dict[str, float]]]:
        """Return the finite numbers of every evaluation by step; of one that was repeated, the last."""
        found: dict[int, dict[str, float]] = {}
        for line in self._evaluations.read_text().splitlines() if self._evaluations.exists() else ():
            with suppress(ValueError, KeyError):  # a line that a crash tore
                row = json.loads(line)
                found[row["step"]] = {name: v for name, v in row["values"].items() if math.isfinite(v)}
        return sorted(found.items())

    def request_stop(self) -> None:
        """Ask the run to save its state and end at the next step; safe in a signal handler."""
        self._stop.touch()

    def stop_requested(self) -> bool:
        """Return whether the run was asked to end."""
        return self._stop.exists()

    def clear_stop(self) -> None:
        """Forget an earlier request to stop."""
        self._stop.unlink(missing_ok=True)

    def warn(self, text: str) -> None:
        """Append a line for the user, who does not see what a worker prints.

        Where it can't be written it goes to the log, and is tried again with the next one and with the next evaluation:
        a warning ends no run.
        """
        self._unwritten.append(" ".join(text.split()) + "\n")
        try:
            self._write_warnings()
        except OSError as error:
            _log.warning("%s (not in %s: %s)", text, self._warnings, error.strerror or error)

    def _write_warnings(self) -> None:
        self.confirm()
        with open(self._warnings, "a") as file:
            file.writelines(self._unwritten)
        self._unwritten.clear()

    @contextmanager
    def errors_reported(self) -> Iterator[None]:
        """Let training go on when something beside a checkpoint can't be written."""
        try:
            yield
        except OSError as error:
            self.warn(f"training goes on, but {error}")

    def warnings(self) -> list[str]:
        """Return the warnings so far."""
        return self._warnings.read_text().splitlines() if self._warnings.exists() else []

    def keep_traceback(self, error: Exception) -> None:
        """Write down where an error that is our mistake was raised; `error.kept_at` is the file, if there is room."""
        with suppress(OSError):
            self.confirm()
            atomic.write_text(self._crash, "".join(traceback.format_exception(error)))
            error.kept_at = self._crash  # type: ignore[attr-defined]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run while the block executes; the lock is freed by the system however the process ends.

        Raises:
            RunLockedError: Another process holds it; the message names the process.
            DiskError: The folder can't be written.
        """
        path = self.path / LOCK
        with ExitStack() as stack:
            try:
                stack.enter_context(lock.held(path, wait_s=LOCK_PATIENCE_S, advice="choose another --runs"))
            except RunLockedError:
                raise self._held() from None
            self.claim()
            atomic.remove_unfinished(self.path)
            yield

    def check_free(self) -> None:
        """Raise RunLockedError where another process executes the run: an answer before `lock` can be asked for."""
        if lock.is_held(self.path / LOCK):
            raise self._held()

    def _held(self) -> RunLockedError:
        holder = lock.holder(self.path / LOCK)
        return RunLockedError(f"run {self.path.name} is held by {holder}: wait for it, stop it, or use another --name")

    def claim(self) -> None:
        """Remember which folder this is, and which lock file lies in it, for `confirm`; both stay open.

        Raises:
            DiskError: The folder can't be opened.
        """
        self._claimed = []
        for path in (self.path, self.path / LOCK):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # nobody holds a lock here: a test, or a trial
            except OSError as error:
                raise atomic.cant_write(path, error) from error
            weakref.finalize(self, os.close, descriptor)
            self._claimed.append((path, descriptor))

    def confirm(self) -> None:
        """Make sure that the folder is still the one that was claimed; do nothing where none was.

        Raises:
            DiskError: It was moved, removed or replaced by another.
        """
        for path, descriptor in self._claimed:
            try:
                same = os.path.samestat(os.fstat(descriptor), path.stat())
            except OSError as error:
                if error.errno not in GONE:
                    continue  # a file system that does not answer now says nothing about the folder
                same = False
            if not same:
                raise DiskError(
                    f"{self.path} was moved, removed or replaced while its run was executed: this process stops and "
                    "writes nothing more there"
                )


def _read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object; an empty one where the file is missing, damaged, or holds something else."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
