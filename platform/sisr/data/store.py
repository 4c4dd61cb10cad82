"""Decoded pixels in one memory-mapped file, so that a random crop costs a copy of memory and not a decoded image.

A store is a cache. It lies under `$SISR_CACHE` (else `~/.cache/sisr`) in a folder named by its files' paths, sizes and
times of modification, and is built anew, reusing what has not changed, when any of them does:

    <cache>/<root>/<key>/pixels.u8     all good images, uint8 RGB, one after the other
    <cache>/<root>/<key>/images.npy    offset, height, width of each
    <cache>/<root>/<key>/images.json   their names, and the index's fingerprint
    <cache>/<root>/<key>/index.json    verdicts on all files

The folder appears by a rename once it is complete; of several processes that ask for it at once, one builds.
"""

import copy
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray

from sisr.data.index import MAX_BAD_FRACTION, Index
from sisr.data.reading import ImageFile, Judged, digest, read_all, stamp
from sisr.disk import cache, lock
from sisr.errors import DataError, DiskError

# Whatever makes the same file give other pixels.
FORMAT = f"1/pillow-{PIL.__version__}"
PIXELS, SHAPES, IMAGES, INDEX = "pixels.u8", "images.npy", "images.json", "index.json"

Progress = Callable[[int, int], None]  # files done, files altogether


class Store:
    """Images by number, read-only, from a memory-mapped file; any number of processes may read it at once.

    Args:
        folder: Where `pack` has built it.

    Attributes:
        names: File names, sorted; `store[i]` is `names[i]`.
        shapes: int64 (len, 3): offset in the file, height, width.
        fingerprint: SHA-256 over all files packed, whatever part of them this store shows.
    """

    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / IMAGES).read_text())
        self.folder, self.fingerprint = folder, str(about["fingerprint"])
        self.names: list[str] = about["names"]
        self.shapes: NDArray[np.int64] = np.load(folder / SHAPES)
        empty = (folder / PIXELS).stat().st_size == 0  # which can't be mapped
        self._pixels = np.empty(0, np.uint8) if empty else np.asarray(np.memmap(folder / PIXELS, np.uint8, "r"))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """Return pixels (h, w, 3): a read-only view of the mapped file."""
        start, height, width = (int(n) for n in self.shapes[index])
        return self._pixels[start : start + height * width * 3].reshape(height, width, 3)

    @cached_property
    def index(self) -> Index:
        """Verdicts on all files packed, also the refused ones; read from disk when first asked for."""
        return Index.from_columns(json.loads((self.folder / INDEX).read_text()))

    @property
    def nbytes(self) -> int:
        """Size in bytes of all pixels packed."""
        return (self.folder / PIXELS).stat().st_size

    def subset(self, names: Iterable[str]) -> "Store":
        """Return the store of those among `names` that it has; those refused are not."""
        wanted = set(names)
        return self._choose(name in wanted for name in self.names)

    def at_least(self, width: int, height: int) -> "Store":
        """Return the store of the images that are at least this large, in pixels."""
        return self._choose(h >= height and w >= width for _, h, w in self.shapes)

    def _choose(self, keep: Iterable[bool]) -> "Store":
        kept = [i for i, keeps in enumerate(keep) if keeps]
        part = copy.copy(self)
        part.names, part.shapes = [self.names[i] for i in kept], self.shapes[kept]
        return part


def pack(
    files: Sequence[ImageFile],
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    *,
    max_bad_fraction: float = MAX_BAD_FRACTION,
) -> Store:
    """Return the store of these files: opened where it exists, else built, each file read and decoded once.

    Args:
        files: In any order.
        cache_dir: None: see `sisr.disk.cache`.
        progress: Called after each file while building.
        max_bad_fraction: More refused files than this stop with an error.

    Raises:
        DataError: Too many files, or all of them, can't be used; the message has the counts and the first ten.
        DiskError: The store can't be written.
    """
    files = sorted(files, key=lambda file: file.name)
    if not files:
        raise DataError("there are no image files to pack")
    root = os.path.commonpath([file.path.parent for file in files])
    family = (cache_dir or cache.folder()) / f"{Path(root).name}-{digest([root])[:12]}"
    stamps = [stamp(file) for file in files]
    folder = family / digest([FORMAT, *(f"{f.name}/{s}/{f.refused}" for f, s in zip(files, stamps, strict=True))])[:24]
    if not (folder / INDEX).is_file():
        with lock.held(family / ".lock", advice="set SISR_CACHE"), _complete(folder) as partial:
            if partial:
                _build(partial, files, stamps, progress or (lambda done, total: None))
    store = Store(folder)
    if len(store) < len(files):
        store.index.check(root, max_bad_fraction)
    return store


def _build(partial: Path, files: Sequence[ImageFile], stamps: Sequence[str], progress: Progress) -> None:
    known = _known(partial.parent, dict(zip((f.name for f in files), stamps, strict=True)))
    verdicts, shapes, end = [], [], 0
    with open(partial / PIXELS, "wb") as file:
        for verdict, pixels in read_all(files, known):
            verdicts.append(verdict)
            if pixels is not None:
                shapes.append((end, *pixels.shape[:2]))
                end += file.write(np.ascontiguousarray(pixels).data.cast("B"))
            progress(len(verdicts), len(files))
        file.flush()
        os.fsync(file.fileno())
    index = Index({file.name: verdict for file, verdict in zip(files, verdicts, strict=True)})
    about = {"format": FORMAT, "fingerprint": index.fingerprint, "names": index.good}
    np.save(partial / SHAPES, np.array(shapes, dtype=np.int64).reshape(-1, 3))
    (partial / IMAGES).write_text(json.dumps(about))
    (partial / INDEX).write_text(json.dumps({**index.to_columns(), "stamp": list(stamps)}))


def _known(family: Path, stamps: dict[str, str]) -> Callable[[ImageFile], Judged | None]:
    """Return a function that finds an unchanged file's verdict and pixels in the newest store of the same root."""
    older = _stores(family)
    if not older or json.loads((older[-1] / IMAGES).read_text())["format"] != FORMAT:
        return lambda file: None
    store = Store(older[-1])
    names = dict(zip(json.loads((older[-1] / INDEX).read_text())["stamp"], store.index.verdicts, strict=True))
    place = {name: i for i, name in enumerate(store.names)}

    def known(file: ImageFile) -> Judged | None:
        name = names.get(stamps[file.name]) if stamps[file.name] else None
        if name is None:
            return None
        return store.index.verdicts[name], store[place[name]] if name in place else None

    return known


def _stores(family: Path) -> list[Path]:
    """Return the folders of complete stores, oldest first."""
    found = [path.parent for path in family.glob(f"*/{INDEX}") if path.parent.suffix != ".partial"]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns)


@contextmanager
def _complete(folder: Path) -> Iterator[Path | None]:
    """Give a folder to fill that takes the place of `folder` once filled; None where another process was quicker.

    The caller holds the lock: leftovers of a process that died are removed, and stores older than the one before.
    """
    if (folder / INDEX).is_file():
        yield None
        return
    for leftover in folder.parent.glob("*.partial"):
        shutil.rmtree(leftover)
    partial = folder.with_suffix(".partial")
    try:
        partial.mkdir()
        yield partial
        partial.rename(folder)
    except OSError as error:
        advice = "free some space or set SISR_CACHE"
        raise DiskError(f"can't write packed images to {folder}: {error.strerror or error}; {advice}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    for stale in _stores(folder.parent)[:-2]:  # a run may still read the one before
        shutil.rmtree(stale, ignore_errors=True)
