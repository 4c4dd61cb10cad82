"""An append-only file of JSON lines that survives crashes, full disks and impatient writers."""

import errno
import json
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sisr.disk import lock
from sisr.errors import DiskError, RunLockedError

SYNC_INTERVAL_S = 1.0
MAX_UNWRITTEN_BYTES = 64 << 20
# A killed writer's lock is free at once. One on a node that was cut off keeps it until its Ray has noticed, or NFS
# takes it away (after 90 s). Whoever starts a run twice gets an error before, from the lock on the run's folder.
LOCK_PATIENCE_S = 180.0
LOCK_SILENCE_S = 5.0  # of waiting, before a warning

_log = logging.getLogger(__name__)


class Journal:
    """The writing end: one process at a time, any of its threads.

    A record is in the operating system's hands when `append` returns, so it survives the process; a thread brings it to
    the disk at most once a second, so that no writer waits for it. While the disk is full, records wait in memory.
    """

    def __init__(self, path: Path):
        """Open or create `path`, and wait a little where another process still has it.

        Raises:
            RunLockedError: Another process keeps writing the file.
            DiskError: The file can't be opened.
        """
        self.path = path
        self._file = _open_locked(path)
        self._lock = threading.RLock()
        # A torn line stays where it is; readers skip it. Its end comes with the first record, for the disk may be full.
        self._unwritten = bytearray(_missing_end(self._file))
        self._warned = False
        self._dirty, self._closing = threading.Event(), threading.Event()
        self._syncer = threading.Thread(target=self._sync_regularly, name="journal-sync", daemon=True)
        self._syncer.start()

    def append(self, record: dict[str, Any]) -> None:
        """Write one record.

        Raises:
            DiskError: The file can't be written, and not just because the disk is full at the moment.
        """
        line = json.dumps(record, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        with self._lock:
            try:
                self._write(line)
            except OSError as error:
                full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO)
                if not full or len(self._unwritten) > MAX_UNWRITTEN_BYTES:
                    raise DiskError(f"{self.path} can't be written: {error.strerror}") from error
                if not self._warned:
                    _log.warning("%s can't be written (%s): records wait in memory", self.path, error.strerror)
                    self._warned = True
        self._dirty.set()

    def flush(self) -> None:
        """Return once every record is on the disk.

        Raises:
            DiskError: It can't be written; what is missing stays in memory and is tried again with the next record.
        """
        with self._lock:
            try:
                self._write(b"")
                os.fsync(self._file)
            except OSError as error:
                raise DiskError(f"{self.path} can't be written: {error.strerror}") from error

    def close(self) -> None:
        """Flush, and let another process write. Closing twice does nothing."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._dirty.set()
        self._syncer.join()
        try:
            self.flush()
        finally:
            os.close(self._file)

    def _write(self, line: bytes) -> None:
        self._unwritten += line
        while self._unwritten:  # a nearly full disk may take a part of it
            del self._unwritten[: os.write(self._file, self._unwritten)]
        self._warned = False

    def _sync_regularly(self) -> None:
        while not self._closing.is_set():
            self._dirty.wait()
            self._dirty.clear()
            try:
                os.fsync(self._file)
            except OSError as error:
                _log.warning("%s can't be brought to the disk: %s", self.path, error.strerror)
            self._closing.wait(SYNC_INTERVAL_S)


def rows(path: Path, offset: int = 0) -> Iterator[tuple[dict[str, Any] | None, int]]:
    """Yield the records of a journal from a byte offset on, each with the offset behind it.

    A complete line that is no record (torn by a crash) is yielded as `None`; an incomplete last line is not yielded.
    """
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            yield (row if isinstance(row, dict) and "op" in row else None), offset


def _missing_end(file: int) -> bytes:
    size = os.fstat(file).st_size
    return b"\n" if size and os.pread(file, 1, size - 1) != b"\n" else b""


def _open_locked(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise DiskError(f"{path} can't be opened for writing: {error.strerror}") from error
    try:
        try:
            lock.acquire(file, path, wait_s=min(LOCK_SILENCE_S, LOCK_PATIENCE_S))
        except RunLockedError:
            _log.warning("waiting up to %.0f s for another process that is writing %s", LOCK_PATIENCE_S, path)
            lock.acquire(file, path, wait_s=LOCK_PATIENCE_S)
    except RunLockedError:
        os.close(file)
        raise RunLockedError(f"another process is writing {path}: end it, or use another run name") from None
    return file
