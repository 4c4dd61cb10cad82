"""Trials on machines that do not reach their sweep's folder: it comes to them, and what they write goes back.

The sweep's driver alone owns the folder, and what lies there alone counts. An actor of Ray's beside it gives a slice
what its trial has so far, and takes what changes: while the slice runs for whoever watches, and whole at its end. A
process that was lost and comes back finds that its slice has another writer.
"""

import os
import secrets
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sisr.disk import atomic, cache
from sisr.disk.run_folder import RunFolder
from sisr.driver.sweep.files import PINNED
from sisr.driver.sweep.host import Task
from sisr.errors import RunLockedError
from sisr.storage.snapshot import Signature, local_files, signature
from sisr.training.checkpoint_files import MANIFEST

PART = 16 << 20  # bytes that travel at once
LEFT = {PINNED, "samples"}  # what no slice reads
EVERY_S = 3.0  # between two looks at what a slice has written


class Folders:
    """The folders of a sweep's trials, for slices on other machines; it lives on the driver's."""

    def __init__(self, sweep: Path) -> None:
        self._sweep = sweep
        self._writers: dict[str, str] = {}  # by trial

    def begin(self, trial: str, writer: str) -> list[str]:
        """Give a trial to a writer, and to nobody who had it before; return the files that it goes on from."""
        self._writers[trial] = writer
        return [path for path in local_files(self._sweep / trial) if Path(path).parts[0] not in LEFT]

    def read(self, trial: str, path: str, start: int) -> bytes:
        """Return a part of a file: `PART` bytes, or what is left."""
        with (self._sweep / trial / path).open("rb") as file:
            file.seek(start)
            return file.read(PART)

    def write(self, trial: str, writer: str, path: str, content: bytes, start: int, last: bool) -> None:
        """Take a part of a file, whose `last` one makes it appear, whole.

        Raises:
            RunLockedError: The trial has another writer.
            DiskError: It can't be written.
        """
        # Not `atomic.file`, which one call would have to begin and end: a file arrives in several.
        target = self._require(trial, writer) / path
        unfinished = target.parent / f"{atomic.MARK}{writer}"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("r+b" if start else "wb") as file:
                file.seek(start)
                file.write(content)
                if last:
                    file.flush()
                    os.fsync(file.fileno())
            if last:
                self._require(trial, writer)
                unfinished.replace(target)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise atomic.cant_write(target, error) from error

    def remove(self, trial: str, writer: str, paths: list[str]) -> None:
        """Remove files, and folders that are empty then, which the writer no longer has."""
        folder = self._require(trial, writer)
        for path in paths:
            (folder / path).unlink(missing_ok=True)
            with suppress(OSError):  # not empty
                (folder / path).parent.rmdir()

    def stop_requested(self) -> bool:
        """Return whether the sweep was asked to end."""
        return RunFolder(self._sweep).stop_requested()

    def _require(self, trial: str, writer: str) -> Path:
        if self._writers.get(trial) != writer:
            raise RunLockedError(f"{trial} runs elsewhere by now: this process was taken for lost")
        return self._sweep / trial


@dataclass(frozen=True)
class Desk:
    """Where slices find a sweep's folders; it travels to them."""

    folders: Any  # the actor
    node: str  # Ray's name for the driver's machine

    def is_elsewhere(self) -> bool:
        """Return whether this process is on another machine than the driver's."""
        return bool(ray.get_runtime_context().get_node_id() != self.node)

    @contextmanager
    def brought_here(self, task: Task) -> Iterator[RunFolder]:
        """Give a folder of this machine with what a trial has so far; at the end the driver's has what it has.

        Raises:
            RunLockedError: The slice was given to another process meanwhile.
            DiskError: It can't be written, here or there.
        """
        trial = task.folder.relative_to(task.sweep).as_posix()
        writer, place = secrets.token_hex(8), _place()
        folder = place / task.sweep.name / trial  # its name in MLflow is made of both
        try:
            folder.mkdir(parents=True)
            for path in _answer(self.folders.begin.remote(trial, writer)):
                self._fetch(trial, path, folder / path)
            sender = _Sender(self.folders, trial, writer, RunFolder(folder))
            try:
                yield sender.folder
            finally:
                sender.finish()
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _fetch(self, trial: str, path: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            while content := _answer(self.folders.read.remote(trial, path, file.tell())):
                file.write(content)


def open_desk(sweep: Path) -> Desk:
    """Return a new desk for a sweep's folder on this machine; it ends with the driver."""
    node = ray.get_runtime_context().get_node_id()
    here = NodeAffinitySchedulingStrategy(node, soft=False)
    return Desk(ray.remote(Folders).options(num_cpus=0, scheduling_strategy=here).remote(sweep), node)


def _place() -> Path:
    """Return a new folder for one slice, and remove those of processes of this machine that are gone."""
    above, host = cache.folder().absolute() / "trials", socket.gethostname()
    for left in above.glob(f"{host}@*"):
        if not psutil.pid_exists(int(left.name.rpartition("@")[2].partition("-")[0])):
            shutil.rmtree(left, ignore_errors=True)
    place = above / f"{host}@{os.getpid()}-{secrets.token_hex(4)}"
    place.mkdir(parents=True)
    return place


def _answer(asked: Any) -> Any:
    """Return what the desk answers, or raise its error as it raised it."""
    try:
        return ray.get(asked)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None


class _Sender:
    """Brings to the driver what a slice writes, and tells the slice that the sweep shall end."""

    def __init__(self, folders: Any, trial: str, writer: str, folder: RunFolder) -> None:
        self.folder = folder
        self._folders, self._trial, self._writer = folders, trial, writer
        self._sent = self._look()
        self._ending = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="sender", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Return once the driver's folder is what this one is, or raise what keeps it from that."""
        self._ending.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        self._send()

    def _work(self) -> None:
        while not self._ending.wait(EVERY_S):
            try:
                if _answer(self._folders.stop_requested.remote()):
                    self.folder.request_stop()
                self._send()
            except Exception as error:  # the slice ends, and raises it
                self._failure = error
                self.folder.request_stop()
                return

    def _send(self) -> None:
        there = self._look()
        # A checkpoint is one once its manifest is there, and journals name pictures: both go last.
        for path in sorted(there, key=lambda path: (Path(path).name == MANIFEST, path.endswith(".jsonl"), path)):
            if self._sent.get(path) != there[path] and self._put(path, there[path]):
                self._sent[path] = there[path]
        if gone := sorted(self._sent.keys() - there):
            _answer(self._folders.remove.remote(self._trial, self._writer, gone))
            for path in gone:
                del self._sent[path]

    def _put(self, path: str, seen: Signature) -> bool:
        """Bring one file there, no longer than it was when it was looked at; return False where it is another now."""
        inode, size, _ = seen
        try:
            with (self.folder.path / path).open("rb") as file:
                now = os.fstat(file.fileno())
                if now.st_ino != inode or now.st_size < size:
                    return False  # replaced meanwhile: the next look sees it
                for start in range(0, size, PART) or (0,):
                    content = file.read(min(PART, size - start))
                    last = start + PART >= size
                    args = self._trial, self._writer, path, content, start, last
                    _answer(self._folders.write.remote(*args))
        except FileNotFoundError:
            return False
        return True

    def _look(self) -> dict[str, Signature]:
        folder = self.folder.path
        return {path: seen for path in local_files(folder) if (seen := signature(folder / path))}
