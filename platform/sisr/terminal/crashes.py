"""What is kept of our own mistakes, for whoever reports them."""

import os
import sys
import time
import traceback

from sisr.disk import atomic, cache
from sisr.errors import SisrError

KEPT = 5


def keep(error: BaseException) -> str:
    """Write a traceback into a file and return its path; of all such files the newest few are kept.

    A run's own folder may hold it already.
    """
    if kept := getattr(error, "kept_at", None):
        return str(kept)
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    text = "".join(traceback.format_exception(error))
    try:
        folder = cache.folder() / "crashes"
        atomic.write_text(folder / name, text)
        for old in sorted(folder.glob("*.txt"))[:-KEPT]:
            old.unlink(missing_ok=True)
    except SisrError as unwritable:
        sys.stderr.write(text)
        return f"the lines above ({unwritable})"
    return str(folder / name)
