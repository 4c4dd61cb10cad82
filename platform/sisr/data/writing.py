"""Image files written strip by strip from the top, so that an image need not be in memory to be saved.

PNG is encoded as the strips arrive, whatever the image's size; JPEG, WebP and AVIF are collected in memory first, 4
bytes a pixel. A file appears under its name only when it is complete.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sisr.data.metadata import NO_METADATA, Metadata
from sisr.disk import atomic
from sisr.errors import DataError, DiskError

Pixels = NDArray[np.uint8] | NDArray[np.uint16]  # (h, w, channels); 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA
Bytes = NDArray[np.uint8]
INCH = 0.0254  # m
# px a side, by suffix
LARGEST = {".png": 2**31 - 1, ".jpg": 65_500, ".jpeg": 65_500, ".webp": 16_383, ".avif": 16_384}
FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".avif": "AVIF"}  # that Pillow writes
QUALITY = 95
FULL_CHROMA_FROM = 90  # quality of JPEG from which colours keep their full resolution
Chroma = Literal["auto", "444", "420"]


@dataclass(frozen=True)
class Aside:
    """What goes into a file besides its pixels."""

    icc: bytes | None = None  # a colour profile
    metadata: Metadata = NO_METADATA


NOTHING = Aside()


@dataclass(frozen=True)
class Saving:
    """How pictures are compressed."""

    quality: int = QUALITY  # 1 .. 100, of JPEG, WebP and AVIF; WebP loses nothing at 100
    chroma: Chroma = "auto"  # of JPEG and AVIF: colours in full or in half resolution; auto: in full from quality 90 on
    quick: bool = False  # of PNG: less than half the time, photographs 4 % larger

    def options(self, file_format: str) -> dict[str, Any]:
        """Return Pillow's options."""
        if file_format == "WEBP":
            return {"quality": self.quality, "lossless": self.quality == 100, "exact": self.quality == 100}
        full = self.quality >= FULL_CHROMA_FROM if self.chroma == "auto" else self.chroma == "444"
        return {"quality": self.quality, "subsampling": "4:4:4" if full else "4:2:0"}


SAVING = Saving()


class Writer(Protocol):
    """Takes an image's rows in order: uint8, or uint16 where the depth is 16."""

    def write(self, strip: Pixels) -> None:
        """Add the next rows, (rows, width, channels)."""
        ...


@contextmanager
def written(
    path: Path,
    width: int,
    height: int,
    channels: int,
    *,
    depth: int = 8,
    aside: Aside = NOTHING,
    saving: Saving = SAVING,
) -> Iterator[Writer]:
    """Give a writer for an image file; after the block the file is there, after an exception it is not.

    Its suffix, one of `LARGEST`, chooses the format; `depth` is 8 or, of PNG, 16 bits. An older file is replaced.

    Raises:
        DataError: The format can't hold such an image.
        DiskError: The file can't be written.
    """
    check(path, width, height, channels)
    try:
        with (
            atomic.file(path) as unfinished,
            open(unfinished, "wb") as file,
            encoded(
                file, path.suffix.lower(), width, height, channels, depth=depth, aside=aside, saving=saving
            ) as writer,
        ):
            yield writer
    except DiskError as error:
        raise DiskError(f"{error}; choose another --output") from error


@contextmanager
def encoded(
    file: BinaryIO,
    suffix: str,
    width: int,
    height: int,
    channels: int,
    *,
    depth: int = 8,
    aside: Aside = NOTHING,
    saving: Saving = SAVING,
) -> Iterator[Writer]:
    """Give a writer that encodes into an open file what `check` allows; after the block the image is complete."""
    writer: _Png | _Collected
    if suffix == ".png":
        writer = _Png(file, width, height, channels, depth, aside, saving.quick)
    else:
        assert depth == 8, f"{suffix} has no {depth} bits"
        writer = _Collected(file, suffix, width, height, channels, aside, saving)
    yield writer
    writer.finish()


def check(path: Path, width: int, height: int, channels: int) -> None:
    """Raise DataError if the format that `path` names can't hold such an image."""
    suffix = path.suffix.lower()
    if suffix not in LARGEST:
        raise DataError(f"{path}: can't write '{path.suffix}'; written are {', '.join(LARGEST)}")
    if max(width, height) > LARGEST[suffix]:
        raise DataError(f"{path}: {suffix} holds at most {LARGEST[suffix]} px a side, not {width}x{height}; write .png")
    if suffix in (".jpg", ".jpeg") and channels in (2, 4):
        raise DataError(f"{path}: JPEG holds no transparency; write .png, .webp or .avif")


class _Png:
    """A PNG encoder that sees each row once. PNG specification, third edition: https://www.w3.org/TR/png-3/"""

    COLOUR = {1: 0, 2: 4, 3: 2, 4: 6}

    def __init__(
        self, file: BinaryIO, width: int, height: int, channels: int, depth: int, aside: Aside, quick: bool
    ) -> None:
        self._file, self._step = file, channels * depth // 8  # bytes of a pixel, between which filters subtract
        self._type = np.dtype("u1" if depth == 8 else ">u2")
        self._above = np.zeros((1, width * self._step), dtype=np.uint8)
        self._rows_left = height
        self._deflate = zlib.compressobj(3 if quick else 6)
        file.write(b"\x89PNG\r\n\x1a\n")
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, self.COLOUR[channels], 0, 0, 0))
        if aside.icc:
            self._chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(aside.icc))
        self._describe(aside.metadata)

    def write(self, strip: Pixels) -> None:
        for start in range(0, len(strip), 64):  # so that the filters' own arrays stay small
            part = np.ascontiguousarray(strip[start : start + 64], dtype=self._type)
            rows = part.view(np.uint8).reshape(-1, self._above.shape[1])
            if packed := self._deflate.compress(self._filtered(rows)):
                self._chunk(b"IDAT", packed)
            self._above = rows[-1:].copy()
        self._rows_left -= len(strip)

    def finish(self) -> None:
        assert self._rows_left == 0, f"{self._rows_left} rows are missing"
        self._chunk(b"IDAT", self._deflate.flush())
        self._chunk(b"IEND", b"")

    def _filtered(self, rows: Bytes) -> bytes:
        """Return the rows, each behind its filter's number: the one with the smallest differences."""
        up = np.concatenate([self._above, rows[:-1]])
        left, corner = (np.pad(x, ((0, 0), (self._step, 0)))[:, : x.shape[1]] for x in (rows, up))
        candidates = {1: rows - left, 2: rows - up, 4: rows - _paeth(left, up, corner)}
        # Of differences as signed bytes, how large they are: in 8 bits, in which 256 - c is -c.
        cost = np.stack([np.minimum(c, -c).sum(axis=1, dtype=np.uint32) for c in candidates.values()])
        best = cost.argmin(axis=0)
        out = np.empty((len(rows), 1 + rows.shape[1]), dtype=np.uint8)
        for i, (number, filtered) in enumerate(candidates.items()):
            chosen = best == i
            out[chosen, 0] = number
            out[chosen, 1:] = filtered[chosen]
        return out.tobytes()

    def _describe(self, metadata: Metadata) -> None:
        if metadata.exif:
            self._chunk(b"eXIf", metadata.exif.removeprefix(b"Exif\0\0"))
        if metadata.dpi:
            self._chunk(b"pHYs", struct.pack(">IIB", *(round(dpi / INCH) for dpi in metadata.dpi), 1))
        for name, text in metadata.texts:
            keyword = name.encode("latin-1", "replace")[:79].strip() or b"Comment"
            self._chunk(b"iTXt", keyword + b"\0\0\0\0\0" + text.encode("utf-8", "replace"))

    def _chunk(self, kind: bytes, data: bytes) -> None:
        self._file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))


def _paeth(left: Bytes, up: Bytes, corner: Bytes) -> Bytes:
    """Return whichever of the three is nearest to left + up - corner; in case of a tie the first."""
    c = corner.astype(np.int16)
    down, right = left - c, up - c  # left + up - corner, less up and less left
    to_left, to_up, to_corner = np.abs(right), np.abs(down), np.abs(down + right)
    nearest = np.where(to_up <= to_corner, up, corner)
    return np.where((to_left <= to_up) & (to_left <= to_corner), left, nearest)


class _Collected:
    """JPEG, WebP or AVIF, by Pillow, which wants the whole image."""

    def __init__(
        self, file: BinaryIO, suffix: str, width: int, height: int, channels: int, aside: Aside, saving: Saving
    ) -> None:
        self._file, self._row = file, 0
        self._format = FORMATS[suffix]
        mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
        self._image = Image.new(mode, (width, height))
        self._options = saving.options(self._format) | aside.metadata.options(self._format)
        self._options |= {"icc_profile": aside.icc}

    def write(self, strip: Pixels) -> None:
        piece = strip[..., 0] if strip.shape[2] == 1 else strip
        self._image.paste(Image.fromarray(np.ascontiguousarray(piece)), (0, self._row))
        self._row += len(strip)

    def finish(self) -> None:
        assert self._row == self._image.height, f"{self._image.height - self._row} rows are missing"
        image = self._image.convert("RGBA") if self._image.mode == "LA" else self._image
        image.save(self._file, format=self._format, **self._options)
