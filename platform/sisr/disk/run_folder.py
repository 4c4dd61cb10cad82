"""The folder of one run: the only place that knows its file names."""

import fcntl
import json
import math
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import sisr.errors
from sisr.errors import DiskError, RunLockedError, SisrError


class RunFolder:
    """The folder of one run; the only place that knows its file names."""

    def __init__(self, path: Path) -> None:
        """Point at a run's folder, which need not exist yet."""
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.samples = path / "samples"
        self.model = path / "model"
        self.best = path / "best.json"
        self._evaluations = path / "evaluations.jsonl"
        self.init = path / "init.safetensors"
        self.run = path / "run.json"  # what is executed: `sisr.training.run` reads and writes it
        self._files = path / "files.json"
        self._stop = path / ".stop"
        self._warnings = path / "warnings.log"
        self._failure = path / ".failure.json"

    def record_files(self, hashes: dict[str, str]) -> None:
        """Write down the hash of each image file, to tell later which ones have changed."""
        write_json(self._files, hashes)

    def file_hashes(self) -> dict[str, str]:
        """Return the hash of each image file that the run was started with; empty where that was not kept."""
        try:
            return dict(json.loads(self._files.read_text()))
        except (OSError, ValueError):
            return {}

    def write_status(self, **fields: Any) -> None:
        """Replace the run's status: state, step, rates, losses, last validation."""
        write_json(self.path / "status.json", fields)

    def status(self) -> dict[str, Any]:
        """Return the last status, or an empty dict."""
        try:
            return dict(json.loads((self.path / "status.json").read_text()))
        except (OSError, ValueError, TypeError):
            return {}

    def add_evaluation(self, step: int, values: dict[str, float]) -> None:
        """Note the numbers of one evaluation."""
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
        """Say something to the user, who does not see what a worker prints."""
        with open(self._warnings, "a") as file:
            file.write(" ".join(text.split()) + "\n")

    def warnings(self) -> list[str]:
        """Return everything said so far."""
        return self._warnings.read_text().splitlines() if self._warnings.exists() else []

    def report_failure(self, error: SisrError) -> None:
        """Leave the reason why a worker ends, for its peers and its driver; the first one counts."""
        with suppress(FileExistsError), open(self._failure, "x") as file:
            json.dump({"type": type(error).__name__, "message": str(error)}, file)

    def failure(self) -> SisrError | None:
        """Return why a worker ended, as it was reported."""
        try:
            found = json.loads(self._failure.read_text())
        except (OSError, ValueError):
            return None
        error: SisrError = getattr(sisr.errors, found["type"], SisrError)(found["message"])
        return error

    def clear_failure(self) -> None:
        """Forget an earlier failure."""
        self._failure.unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run while the block executes; the lock is freed by the system however the process ends.

        Raises:
            RunLockedError: Another process holds it; the message names the process.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = open(self.path / ".lock", "a+")  # noqa: SIM115
        except OSError as error:
            reason = error.strerror or str(error)
            raise DiskError(f"can't write runs to {self.path.parent}: {reason}; choose another --runs") from error
        with lock as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise RunLockedError(
                    f"run {self.path.name} is held by {holder}: wait for it, stop it, or use another --name"
                ) from None
            file.truncate(0)
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}\n")
            file.flush()
            yield


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a JSON file atomically: readers see the old content or the new."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    os.replace(temporary, path)
