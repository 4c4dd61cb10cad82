"""Locks between processes, freed by the system however their holder ends. They rest on the filelock package.

A lock is an open file. It is never removed, and a link in its place is refused.
"""

import errno
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import lock_descriptor

from sisr.errors import DiskError, RunLockedError

POLL_S = 0.05
FOREVER = float("inf")


@contextmanager
def held(
    path: Path, *, wait_s: float = FOREVER, give_up: Callable[[], bool] = lambda: False, advice: str = ""
) -> Iterator[Callable[[], bool]]:
    """Hold a lock file while the block executes; the block gets a function that says whether it still is the path's.

    Args:
        path: The lock file, made where it is missing, with its folder. It names its holder.
        wait_s: How long to wait for another process.
        give_up: Asked while waiting; true ends it.
        advice: What to do where the file can't be opened.

    Raises:
        RunLockedError: Another process holds it; the message names the process.
        DiskError: The file can't be opened.
    """
    descriptor = _open(path, advice)
    try:
        acquire(descriptor, path, wait_s=wait_s, give_up=give_up)
        if not _is_at(descriptor, path):
            raise RunLockedError(f"{path} was removed or replaced at this moment: try again")
        with suppress(OSError):  # on a full disk the lock holds all the same
            os.ftruncate(descriptor, 0)
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {now}\n".encode(), 0)
        yield lambda: _is_at(descriptor, path)
    finally:
        os.close(descriptor)


def acquire(
    descriptor: int, path: Path, *, wait_s: float = FOREVER, give_up: Callable[[], bool] = lambda: False
) -> None:
    """Lock an open file until it is closed; see `held`.

    Raises:
        RunLockedError: Another process holds it, and did not free it in time.
    """
    began = time.monotonic()
    while not lock_descriptor(descriptor, blocking=False):
        if time.monotonic() - began >= wait_s or give_up():
            raise RunLockedError(f"{path} is held by {holder(path)}")
        time.sleep(POLL_S)


def holder(path: Path) -> str:
    """Return in words who holds a lock file, as its holder has written there."""
    try:
        return path.read_text().strip() or "another process"
    except (OSError, ValueError):
        return "another process"


def is_held(path: Path) -> bool:
    """Return whether a living process holds the lock of a file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # filelock knows exclusive locks only: two that ask at the same time would each take the other for a holder.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _open(path: Path, advice: str) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        reason = "it is a link" if error.errno == errno.ELOOP else error.strerror or error
        raise DiskError(f"{path} can't be written: {reason}" + (f"; {advice}" if advice else "")) from error


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except OSError:
        return False
