"""Many image files read, examined and decoded at the same time, results in order."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sisr.data.images import Verdict, examine

Judged = tuple[Verdict, NDArray[np.uint8] | None]  # pixels (h, w, 3), or None where refused


@dataclass(frozen=True)
class ImageFile:
    """A file of a source."""

    path: Path  # absolute
    name: str  # unique in the source, the same on every machine: relative, with forward slashes
    refused: tuple[str, str] | None = None  # kind and detail, where listing already found that it can't be used


def read_all(files: Sequence[ImageFile], known: Callable[[ImageFile], Judged | None]) -> Iterator[Judged]:
    """Yield verdict and pixels of each file, in order.

    Several are decoded at once, by threads, since decoders release Python's lock; few are held in memory.

    Args:
        files: What to read.
        known: Returns what is known about a file that has not changed, so that it needs no reading; None: read it.
    """
    workers = min(16, _cores())
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    waiting: deque[Future[Judged]] = deque()
    try:
        for file in files:
            waiting.append(pool.submit(_read, file, known))
            if len(waiting) > workers + 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def stamp(file: ImageFile) -> str:
    """Return a digest of path, size and time of modification; "" where the file can't be looked at."""
    try:
        found = file.path.stat()
    except OSError:
        return ""
    return digest([str(file.path), str(found.st_size), str(found.st_mtime_ns)])[:24]


def digest(parts: Iterable[str]) -> str:
    """Return the SHA-256 of several strings, in hexadecimal; file names that aren't text are no obstacle."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part.encode("utf-8", "surrogateescape") + b"\0")
    return sha.hexdigest()


def _read(file: ImageFile, known: Callable[[ImageFile], Judged | None]) -> Judged:
    if file.refused:
        return Verdict(0, "", "", 0, 0, *file.refused), None
    return known(file) or examine(file.path)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
