"""Files and folders that appear under their name only when they are complete and on the disk.

The only way in which the product replaces files. Readers see the old content or the new, after a power cut, too.
"""

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sisr.errors import DiskError

MARK = ".unfinished-"  # the temporary names begin so
LONGEST_SUFFIX = 16  # bytes; a longer one is no format's
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def file(target: Path) -> Iterator[Path]:
    """Give another name to write to, with the same suffix; after the block the file replaces `target`.

    After an exception an older file is what it was, and nothing else is left. Missing folders are made.

    Raises:
        DiskError: It can't be written.
    """
    suffix = target.suffix if len(target.suffix.encode()) <= LONGEST_SUFFIX else ""
    unfinished = _unfinished(target.parent, suffix)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        _sync(unfinished)
        unfinished.replace(target)
        _sync(target.parent)
    except DiskError:
        raise
    except OSError as error:
        raise cant_write(target, error) from error
    finally:
        with suppress(OSError):
            unfinished.unlink()


@contextmanager
def folder(target: Path) -> Iterator[Path]:
    """Give an empty folder to fill; after the block it stands at `target`, in place of what was there before.

    After an exception an older folder is what it was, and nothing else is left. Missing folders above it are made.

    Raises:
        DiskError: It can't be written.
    """
    unfinished, old = _unfinished(target.parent), _unfinished(target.parent)
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        for path in (*unfinished.rglob("*"), unfinished):
            _sync(path)
        with suppress(FileNotFoundError):
            target.rename(old)
        unfinished.rename(target)
        _sync(target.parent)
    except DiskError:
        raise
    except OSError as error:
        raise cant_write(target, error) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Replace a text file, or raise DiskError."""
    with file(path) as unfinished:
        unfinished.write_text(text)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a JSON file, or raise DiskError."""
    write_text(path, json.dumps(content, indent=1, sort_keys=True) + "\n")


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes left half written in a folder; for whoever holds the folder's lock."""
    for path in folder.glob(f"{MARK}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def remove_folder(folder: Path) -> None:
    """Remove a folder so that a kill in the middle leaves nothing under its name."""
    leaving = _unfinished(folder.parent)
    folder.rename(leaving)
    shutil.rmtree(leaving, ignore_errors=True)


def unused_name(path: Path) -> Path:
    """Return a path beside `path` that nothing has, with the same beginning."""
    return path.with_name(f"{path.name}-{uuid.uuid4().hex[:8]}")


def cant_write(path: Path, error: OSError) -> DiskError:
    """Return the error for the user: which path, why, and how much room there is where the disk is full."""
    text = f"{path} can't be written: {error.strerror or error}"
    if error.errno in FULL and (free := free_bytes(path)) is not None:
        text += f" ({free / 2**20:,.1f} MiB free)"
    found = DiskError(text)
    found.errno = error.errno
    return found


def free_bytes(path: Path) -> int | None:
    """Return how many bytes are free on the disk of a path that need not exist; None where that can't be known."""
    for place in (path, *path.absolute().parents):
        with suppress(OSError):
            return shutil.disk_usage(place).free
    return None


def _unfinished(parent: Path, suffix: str = "") -> Path:
    """Return a name that no file has, short enough for any file system, whatever the target is called."""
    return parent / f"{unused_name(Path(f'{MARK}{os.getpid()}'))}{suffix}"


def _sync(path: Path) -> None:
    """Bring a file or a folder's names to the disk; for folders where their file system can do that."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EACCES):
            raise
