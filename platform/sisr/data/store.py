"""Decoded pixels in one memory-mapped file, so that a random crop costs a copy of memory and not a decoded image.

    <folder>/pixels.u8     all good images, uint8 RGB, one after the other
    <folder>/images.npy    offset, height, width of each
    <folder>/images.json   their names, and the index's fingerprint
    <folder>/index.json    verdicts on all files
    <folder>/sums.json     the format's number, SHA-256 of the three files above, CRC-32 of each image's pixels

Format 1 has no sums.json; that is how packs are published, and whoever fetches one adds the sums. Damage is found when
a store is opened (sizes, the small files, and all pixels up to `CHECKED_AT_ONCE`) or when an image is first used.
"""

import copy
import hashlib
import json
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sisr.data.index import Index
from sisr.disk import atomic
from sisr.errors import DataError

FORMAT = 2
PIXELS, SHAPES, IMAGES, INDEX, SUMS = "pixels.u8", "images.npy", "images.json", "index.json", "sums.json"
DAMAGED = "damaged"  # a file that holds what was found to be wrong, for the next process
CHECKED_AT_ONCE = 256 << 20  # bytes of pixels: a quarter of a second


class DamagedStoreError(DataError):
    """Packed images that are not what was packed."""


class Store:
    """Images by number, read-only, from a memory-mapped file; any number of processes may read it at once.

    Args:
        folder: Where `packing.pack` has built it, or `published.fetch` has put it.

    Attributes:
        names: File names, sorted; `store[i]` is `names[i]`.
        shapes: int64 (len, 3): offset in the file, height, width.
        fingerprint: SHA-256 over all files packed, whatever part of them this store shows.

    Raises:
        DamagedStoreError: The files are not what was packed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if (folder / DAMAGED).is_file():
            raise _damaged(folder, (folder / DAMAGED).read_text())
        try:
            sums = json.loads((folder / SUMS).read_text())
            if sums["format"] != FORMAT:
                raise _damaged(folder, f"{SUMS} has format {sums['format']}, not {FORMAT}")
            for name, expected in sums["files"].items():
                if hashlib.sha256((folder / name).read_bytes()).hexdigest() != expected:
                    raise _damaged(folder, f"{name} has changed")
            about = json.loads((folder / IMAGES).read_text())
            self.shapes: NDArray[np.int64] = np.load(folder / SHAPES)
            self._sums = np.array(sums["crc32"], np.uint32)
            self._pixels = _mapped(folder, self.shapes)
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, DamagedStoreError):
                raise
            raise _damaged(folder, f"{type(error).__name__}: {error}") from error
        self.fingerprint, self.names = str(about["fingerprint"]), list[str](about["names"])
        self._unchecked = np.ones(len(self.names), np.bool_)
        if self.nbytes <= CHECKED_AT_ONCE:
            self.check()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """Return pixels (h, w, 3): a read-only view of the mapped file.

        Raises:
            DamagedStoreError: They are not what was packed. The next process that asks for this store replaces it.
        """
        start, height, width = (int(n) for n in self.shapes[index])
        pixels = self._pixels[start : start + height * width * 3]
        if self._unchecked[index]:
            if zlib.crc32(pixels.data) != self._sums[index]:
                raise self._damaged(f"the pixels of {self.names[index]} have changed")
            self._unchecked[index] = False
        return pixels.reshape(height, width, 3)

    @cached_property
    def index(self) -> Index:
        """Verdicts on all files packed, also the refused ones; read from disk when first asked for."""
        return Index.from_columns(json.loads((self.folder / INDEX).read_text()))

    @property
    def nbytes(self) -> int:
        """Size in bytes of all pixels packed."""
        return len(self._pixels)

    def check(self) -> None:
        """Read the pixels of every image.

        Raises:
            DamagedStoreError: Some are not what was packed; see `__getitem__`.
        """
        for index in range(len(self)):
            self[index]

    def subset(self, names: Iterable[str]) -> "Store":
        """Return the store of those among `names` that it has; those refused are not."""
        chosen = set(names)
        return self._choose(name in chosen for name in self.names)

    def at_least(self, width: int, height: int) -> "Store":
        """Return the store of the images that are at least this large, in pixels."""
        return self._choose(h >= height and w >= width for _, h, w in self.shapes)

    def _choose(self, keep: Iterable[bool]) -> "Store":
        kept = [i for i, keeps in enumerate(keep) if keeps]
        part = copy.copy(self)
        part.names, part.shapes = [self.names[i] for i in kept], self.shapes[kept]
        part._sums, part._unchecked = self._sums[kept], self._unchecked[kept]
        return part

    def _damaged(self, found: str) -> DamagedStoreError:
        with suppress(OSError):
            (self.folder / DAMAGED).write_text(found)
        return _damaged(self.folder, found)


def write_sums(folder: Path, pixel_sums: Sequence[int] | None = None) -> None:
    """Write down the sums by which damage to a store is found.

    Args:
        folder: Holds the store's other files, which are as they should be.
        pixel_sums: CRC-32 of each image's pixels, where they are known; None: they are read.
    """
    if pixel_sums is None:
        shapes = np.load(folder / SHAPES)
        pixels = _mapped(folder, shapes)
        pixel_sums = [zlib.crc32(pixels[start : start + height * width * 3].data) for start, height, width in shapes]
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (SHAPES, IMAGES, INDEX)}
    # Not through `atomic.write_json`, which indents: a line for each image.
    atomic.write_text(folder / SUMS, json.dumps({"format": FORMAT, "files": files, "crc32": pixel_sums}))


def _mapped(folder: Path, shapes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return all pixels, from a mapped file that is as long as the images together."""
    size, expected = (folder / PIXELS).stat().st_size, int((shapes[:, 1] * shapes[:, 2] * 3).sum())
    if size != expected:
        killed = "; a run that was reading it then was killed by the system (SIGBUS)" if size < expected else ""
        raise _damaged(folder, f"{PIXELS} has {size:,} bytes instead of {expected:,}{killed}")
    if not size:  # which can't be mapped
        return np.empty(0, np.uint8)
    return np.asarray(np.memmap(folder / PIXELS, np.uint8, "r"))


def _damaged(folder: Path, found: str) -> DamagedStoreError:
    return DamagedStoreError(f"the packed images in {folder} are damaged: {found}; the next start replaces them")
