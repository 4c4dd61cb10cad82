"""Which code from outside this package may run: what its user named on a command line of this machine before.

Trust is in the content, never in the place: a folder that was downloaded can't claim to be the user's own. A file is
known by its SHA-256 and name; each that is trusted has an entry in the cache, which counts only if nobody else could
have written it.
"""

import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path

from sisr.disk import cache


def remember(name: str, text: str, where: str) -> None:
    """Trust a recipe's text from now on; where that can't be written down, it will have to be named again.

    `where` is what the user named, for a person who looks into the cache.
    """
    entry = _entry(name, text)
    with suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if _is_own(entry.parent, stat.S_IFDIR):  # never write through a link, or into a folder of somebody else's
            entry.write_text(f"{name}\n{where}\n")


def is_trusted(name: str, text: str) -> bool:
    """Return whether this user trusted exactly this text, under this name, on this machine."""
    entry = _entry(name, text)
    return _is_own(entry.parent, stat.S_IFDIR) and _is_own(entry, stat.S_IFREG)


def _is_own(path: Path, kind: int) -> bool:
    """Return whether a path is of this kind, no link, and nobody but this user can have made or changed it."""
    try:
        found = path.lstat()
    except OSError:
        return False
    others = stat.S_IWOTH | (stat.S_IWGRP if kind == stat.S_IFDIR else 0)
    return stat.S_IFMT(found.st_mode) == kind and found.st_uid == os.getuid() and not found.st_mode & others


def _entry(name: str, text: str) -> Path:
    return cache.folder() / "trusted_recipes" / hashlib.sha256(f"{name}\0{text}".encode()).hexdigest()
