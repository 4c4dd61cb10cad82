"""What must be known of a PNG before it is decoded: which side chunks can be read, and which colour is transparent.

Pillow refuses a picture for a side chunk that browsers pass over, such as a profile above 1 MiB or a comment with a bad
checksum; and of a transparent colour (tRNS) it forgets how many bits the samples had. PNG specification, third
edition: https://www.w3.org/TR/png-3/
"""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngStream

from sisr.data.formats import RefusedError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
ANIMATION = (b"acTL", b"fcTL", b"fdAT")
GREY, COLOUR, GREY_WITH_ALPHA = 0, 2, 4  # colour types


@dataclass
class Png:
    """A PNG that Pillow can decode wherever the pixels are whole."""

    content: bytes  # of the file, without side chunks that can't be read, animation and transparent colour
    depth: int = 8  # bits per sample
    colour_type: int = COLOUR
    transparent: tuple[int, ...] | None = None  # the transparent colour, as samples of `depth` bits
    dropped: list[str] = field(default_factory=list)  # names of the side chunks that can't be read

    def alpha(self, samples: NDArray[np.generic]) -> NDArray[np.uint8] | None:
        """Return 0 where Pillow's samples (h, w) or (h, w, 3) are the transparent colour, else 255; None: no such."""
        if self.transparent is None:
            return None
        step = 255 // (2**self.depth - 1) if self.depth < 8 and samples.dtype != np.bool_ else 1  # Pillow has scaled
        same = samples.reshape(*samples.shape[:2], -1) == np.array(self.transparent) * step
        return np.where(same.all(axis=2), 0, 255).astype(np.uint8)


def read(data: bytes) -> Png:
    """Return what a PNG holds, ready to be decoded.

    Raises:
        RefusedError: It ends before its pixels begin, is an animation, or has transparency that can't be converted.
    """
    if not data.startswith(SIGNATURE):
        raise RefusedError("damaged", f"the signature of PNG is {data[:8]!r}: copied as if it were text?")
    png, kept, side, has_pixels = Png(b""), [SIGNATURE], PngStream(io.BytesIO()), False
    for kind, content, chunk, is_sound in _chunks(data):
        is_side = bool(kind[0] & 0x20) and kind != b"tRNS"
        if is_side and not (is_sound and _is_readable(side, kind, content)):
            png.dropped.append(kind.decode("ascii", "replace"))
        elif kind == b"acTL" and (frames := int.from_bytes(content[:4])) > 1:
            raise RefusedError("several frames", f"{frames} in one PNG file")
        elif kind == b"tRNS" and png.colour_type in (GREY, COLOUR):
            png.transparent = _transparent(png, content, is_sound)
        elif kind not in ANIMATION:
            kept.append(chunk)
        if kind == b"IHDR" and len(content) == 13:
            png.depth, png.colour_type = content[8], content[9]
        has_pixels |= kind == b"IDAT"
    if not has_pixels:
        raise RefusedError("truncated", f"{len(data):,} bytes, and no pixels yet")
    png.content = b"".join(kept)
    return png


def samples(png: Png, mode: str) -> NDArray[np.uint16] | None:
    """Return all 16 bits of each sample, (h, w, 3) or (h, w, 4): Pillow gives its upper half. None: it can't be had.

    Pillow's unpackers of 16-bit samples take either byte first and drop the other: so both are read, one after another.
    """
    if mode.startswith("I;16"):
        with PngImageFile(io.BytesIO(png.content)) as image:
            return np.asarray(image)[..., None].astype(np.uint16).repeat(3, axis=2)
    if mode not in ("RGB", "RGBA"):
        return None
    halves = []
    for order in ("B", "L"):
        with PngImageFile(io.BytesIO(png.content)) as image:
            image.tile = [tile._replace(args=f"{mode};16{order}") for tile in image.tile]
            halves.append(np.asarray(image).astype(np.uint16))
    return halves[0] * np.uint16(256) + halves[1]


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes, bool]]:
    """Yield each chunk's kind, content, all its bytes, and whether its checksum is right; the last may be cut."""
    start = len(SIGNATURE)
    while len(data) >= start + 8:
        length, kind = struct.unpack_from(">I4s", data, start)
        end = start + 12 + length
        content, checksum = data[start + 8 : end - 4], data[end - 4 : end]
        # That of pixels is not needed: zlib has its own.
        is_sound = end <= len(data) and (kind == b"IDAT" or checksum == zlib.crc32(kind + content).to_bytes(4))
        yield kind, content, data[start:end], is_sound
        start = end


def _is_readable(stream: PngStream, kind: bytes, content: bytes) -> bool:
    """Return whether Pillow can read a side chunk; `stream` counts how much memory the texts before it took."""
    if kind in ANIMATION:
        return True
    try:
        if kind == b"eXIf":
            Image.Exif().load(b"Exif\0\0" + content)
        stream.fp = io.BytesIO(content)
        if hasattr(stream, f"chunk_{kind.decode('ascii')}"):
            stream.call(kind, 0, len(content))
    except Exception:  # whatever it is, it would stop Pillow from reading the picture
        return False
    return True


def _transparent(png: Png, content: bytes, is_sound: bool) -> tuple[int, ...]:
    count = 1 if png.colour_type == GREY else 3
    if not is_sound or len(content) < 2 * count:
        raise RefusedError("damaged", "the transparent colour (tRNS) can't be read")
    if png.depth == 16 and png.colour_type == COLOUR:
        found = "48 bits with a transparent colour (tRNS), which is lost with 8 bits a channel"
        raise RefusedError("unsupported pixels", f"{found}: save an alpha channel")
    return tuple(sample & (2**png.depth - 1) for sample in struct.unpack_from(f">{count}H", content))
