"""Files that appear under their name only when they are complete."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sisr.errors import DiskError


@contextmanager
def placed(target: Path) -> Iterator[Path]:
    """Give another name to write to, with the same suffix; after the block the file replaces `target`.

    After an exception an older file is what it was, and nothing else is left.

    Raises:
        DiskError: It can't be written.
    """
    unfinished = target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        unfinished.replace(target)
    except OSError as error:
        raise DiskError(f"{target} can't be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            unfinished.unlink()
