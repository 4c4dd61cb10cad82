"""Where things are kept that can be made again, and the user's home folder, also where there is none."""

import os
import stat
import tempfile
from pathlib import Path

from sisr.errors import DiskError


def folder() -> Path:
    """Return the cache: `$SISR_CACHE`, else `sisr` in `$XDG_CACHE_HOME` or in `.cache` in the home folder."""
    if given := os.environ.get("SISR_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or home() / ".cache") / "sisr"


def home() -> Path:
    """Return the user's home folder; a private one below the temporary directory where the system knows none.

    So it is in a container whose user has a number only, and no HOME.

    Raises:
        DiskError: The private folder is somebody else's, or can't be made.
    """
    try:
        return Path.home()
    except RuntimeError:
        return _private(Path(tempfile.gettempdir()) / f"sisr-home-{os.getuid()}")


def expanded(path: str | Path) -> Path:
    """Return a path with `~` as `home`; the `~NAME` of somebody whom the system does not know stays what it is."""
    first, *rest = Path(path).parts or ("",)
    if first == "~":
        return home().joinpath(*rest)
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def _private(path: Path) -> Path:
    """Return a folder that only we can read, made where it is missing."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise DiskError(f"there is no home folder, and {path} can't be made: {error.strerror}; set HOME") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise DiskError(f"there is no home folder, and {path} is not ours alone: set HOME or SISR_CACHE")
    return path
