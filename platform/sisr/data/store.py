"""Decoded pixels in one memory-mapped file, so that a random crop costs a copy of memory and not a decoded image.

    <folder>/pixels.u8     all good images, uint8 RGB, one after the other
    <folder>/images.npy    offset, height, width of each; in a store of pairs also those of its lr
    <folder>/images.json   their names, and the index's fingerprint
    <folder>/index.json    verdicts on all files
    <folder>/sums.json     the format's number, SHA-256 of the three files above, CRC-32 of each image's pixels

Format 3 is that of pairs, each hr followed by its lr. Format 1 has no sums.json; that is how packs are published, and
whoever fetches one adds the sums. Damage is found when a store is opened (sizes, the small files, and all pixels up to
`CHECKED_AT_ONCE`) or when an image is first used.
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

FORMAT, PAIRED = 2, 3  # of one image each, of pairs
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
            if sums["format"] not in (FORMAT, PAIRED):
                raise _damaged(folder, f"{SUMS} has format {sums['format']}, not {FORMAT} or {PAIRED}")
            for name, expected in sums["files"].items():
                if hashlib.sha256((folder / name).read_bytes()).hexdigest() != expected:
                    raise _damaged(folder, f"{name} has changed")
            about = json.loads((folder / IMAGES).read_text())
            self._table = _table(folder)
            self._sums = np.array(sums["crc32"], np.uint32).reshape(self._table.shape[:2])
            self._pixels = _mapped(folder, self._table)
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            if isinstance(error, DamagedStoreError):
                raise
            raise _damaged(folder, f"{type(error).__name__}: {error}") from error
        self.fingerprint, self.names = str(about["fingerprint"]), list[str](about["names"])
        self._unchecked = np.ones(self._sums.shape, np.bool_)
        if self.nbytes <= CHECKED_AT_ONCE:
            self.check()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """Return pixels (h, w, 3): a read-only view of the mapped file.

        Raises:
            DamagedStoreError: They are not what was packed. The next process that asks for this store replaces it.
        """
        return self._part(index, 0)

    def lr(self, index: int) -> NDArray[np.uint8]:
        """Return the pixels of the lr that is given with an image, as the image itself is returned."""
        return self._part(index, 1)

    def images(self, index: int) -> tuple[NDArray[np.uint8], ...]:
        """Return all pixels of one name: of one image, or of hr and lr."""
        return tuple(self._part(index, part) for part in range(self._table.shape[1]))

    def _part(self, index: int, part: int) -> NDArray[np.uint8]:
        start, height, width = (int(n) for n in self._table[index, part])
        pixels = self._pixels[start : start + height * width * 3]
        if self._unchecked[index, part]:
            if zlib.crc32(pixels.data) != self._sums[index, part]:
                raise self._damaged(f"the pixels of {self.names[index]} have changed")
            self._unchecked[index, part] = False
        return pixels.reshape(height, width, 3)

    @property
    def paired(self) -> bool:
        """Whether lr is given with each image."""
        return self._table.shape[1] == 2

    @property
    def shapes(self) -> NDArray[np.int64]:
        """Offset in the file, height and width of each image, (len, 3)."""
        return self._table[:, 0]

    @property
    def lr_shapes(self) -> NDArray[np.int64]:
        """The same of the lr that is given with each image."""
        return self._table[:, 1]

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
            self.images(index)

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
        part.names, part._table = [self.names[i] for i in kept], self._table[kept]
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
        pixel_sums: CRC-32 of the pixels of each image (of pairs: hr, lr, hr ...), where known; None: they are read.
    """
    table = _table(folder)
    if pixel_sums is None:
        pixels = _mapped(folder, table)
        places = table.reshape(-1, 3)
        pixel_sums = [zlib.crc32(pixels[start : start + height * width * 3].data) for start, height, width in places]
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (SHAPES, IMAGES, INDEX)}
    # Not through `atomic.write_json`, which indents: a line for each image.
    about = {"format": PAIRED if table.shape[1] == 2 else FORMAT, "files": files, "crc32": pixel_sums}
    atomic.write_text(folder / SUMS, json.dumps(about))


def _table(folder: Path) -> NDArray[np.int64]:
    """Return offset, height and width of every image by name and part: (names, 1 or 2, 3)."""
    table: NDArray[np.int64] = np.load(folder / SHAPES)
    return table.reshape(len(table), table.shape[1] // 3, 3)


def _mapped(folder: Path, table: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return all pixels, from a mapped file that is as long as the images together."""
    size, expected = (folder / PIXELS).stat().st_size, int((table[..., 1] * table[..., 2] * 3).sum())
    if size != expected:
        killed = "; a run that was reading it then was killed by the system (SIGBUS)" if size < expected else ""
        raise _damaged(folder, f"{PIXELS} has {size:,} bytes instead of {expected:,}{killed}")
    if not size:  # which can't be mapped
        return np.empty(0, np.uint8)
    return np.asarray(np.memmap(folder / PIXELS, np.uint8, "r"))


def _damaged(folder: Path, found: str) -> DamagedStoreError:
    return DamagedStoreError(f"the packed images in {folder} are damaged: {found}; the next start replaces them")
