"""From one image file to pixels, or a reason why not.

| what is found | what becomes of it |
|---|---|
| grey, 1-bit, palette, CMYK, YCbCr | converted |
| 16-bit grey | scaled to 8 bits, never saturated |
| 48-bit RGB, 64-bit RGBA | upper 8 bits of each channel |
| transparency | flattened on a background; nothing but transparency: refused |
| EXIF orientation | turned upright before anything else looks at the size |
| several frames or pages | refused (a phone's second picture in a JPEG is ignored) |
| more pixels than allowed | refused from the header, before decoding |
| 32-bit integers or floats | refused: their range is unknown |
| empty, truncated, damaged, not an image, unreadable | refused |

A flipped byte inside a JPEG decodes without complaint: only the content hash can tell.
"""

import hashlib
import io
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from sisr.errors import DataError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")  # others' decoders are never reached
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
MAX_PIXELS = 50_000_000
MAX_BYTES = 1 << 30
WHITE = (255, 255, 255)


class RefusedError(DataError):
    """An image file that can't be used.

    Attributes:
        kind: The reason in a few words, the same for all such files: what refusals are counted by.
        detail: What was found in this one.
    """

    def __init__(self, kind: str, detail: str, path: Path | None = None) -> None:
        super().__init__(f"{path}: {kind}: {detail}" if path else f"{kind}: {detail}")
        self.kind, self.detail = kind, detail


@dataclass(frozen=True)
class Picture:
    """A decoded image, upright."""

    pixels: NDArray[np.uint8]  # (h, w, 3), RGB, not flattened
    alpha: NDArray[np.uint8] | None  # (h, w); None: opaque by format
    grey: bool  # the file holds one channel of colour; the three channels are equal
    mode: str  # the file's mode in Pillow's words
    notes: tuple[str, ...]  # what was converted


@dataclass(frozen=True)
class Verdict:
    """What is known about a file: what the index holds."""

    size: int  # bytes
    sha256: str  # of the content; empty where it can't be read
    mode: str
    width: int  # px, upright
    height: int  # px, upright
    kind: str | None = None  # why it is refused; None: it is good
    detail: str = ""  # what was found
    notes: tuple[str, ...] = ()  # what was converted


def decode(path: Path, *, max_pixels: int = MAX_PIXELS, background: tuple[int, int, int] = WHITE) -> NDArray[np.uint8]:
    """Return the image's pixels, uint8 (h, w, 3), RGB, upright, transparency flattened on `background`.

    Raises:
        RefusedError: It can't be used; the message names the file and the reason.
    """
    picture = decode_with_alpha(path, max_pixels=max_pixels)
    _refuse_invisible(picture, path)
    return flatten(picture, background)


def decode_bytes(
    data: bytes, *, max_pixels: int = MAX_PIXELS, background: tuple[int, int, int] = WHITE
) -> NDArray[np.uint8]:
    """Return the pixels of an image file's content; see `decode`.

    Raises:
        RefusedError: It can't be used.
    """
    picture = decode_bytes_with_alpha(data, max_pixels=max_pixels)
    _refuse_invisible(picture)
    return flatten(picture, background)


def decode_bytes_with_alpha(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Return the image in a file's content, its transparency apart.

    Raises:
        RefusedError: It can't be used.
    """
    return _picture(io.BytesIO(data), max_pixels)


def decode_with_alpha(path: Path, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Return the image with its transparency apart, and whether it is grey.

    Raises:
        RefusedError: It can't be used; the message names the file and the reason.
    """
    try:
        with open(path, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise RefusedError("unreadable", "not a regular file", path)
            return _picture(file, max_pixels)
    except RefusedError as error:
        raise RefusedError(error.kind, error.detail, path) from error.__cause__
    except OSError as error:
        raise RefusedError("unreadable", error.strerror or str(error), path) from error


def examine(path: Path, *, max_pixels: int = MAX_PIXELS) -> Verdict:
    """Return what is known about the file after decoding all of it. Never raises for what the file holds."""
    return examine_and_decode(path, max_pixels=max_pixels)[0]


def examine_and_decode(
    path: Path, *, max_pixels: int = MAX_PIXELS, background: tuple[int, int, int] = WHITE
) -> tuple[Verdict, NDArray[np.uint8] | None]:
    """Return the verdict on the file and, where it is good, its pixels as `decode` gives them, from one reading."""
    size, digest = 0, ""
    try:
        found = path.stat()
        size = found.st_size
        if not stat.S_ISREG(found.st_mode):
            raise RefusedError("unreadable", "not a regular file")
        if size > MAX_BYTES:
            raise RefusedError("too many bytes", f"{size:,}; at most {MAX_BYTES:,}")
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        picture = _picture(io.BytesIO(data), max_pixels)
        _refuse_invisible(picture)
    except RefusedError as error:
        return Verdict(size, digest, "", 0, 0, error.kind, error.detail), None
    except OSError as error:
        return Verdict(size, digest, "", 0, 0, "unreadable", error.strerror or str(error)), None
    pixels = flatten(picture, background)
    height, width = pixels.shape[:2]
    return Verdict(size, digest, picture.mode, width, height, notes=picture.notes), pixels


def flatten(picture: Picture, background: tuple[int, int, int] = WHITE) -> NDArray[np.uint8]:
    """Return the picture's pixels, uint8 (h, w, 3), laid over `background` where they are transparent."""
    if picture.alpha is None:
        return picture.pixels
    alpha = picture.alpha[..., None].astype(np.uint16)
    beneath = np.array(background, dtype=np.uint16) * (255 - alpha)
    return ((picture.pixels * alpha + beneath + 127) // 255).astype(np.uint8)


def _refuse_invisible(picture: Picture, path: Path | None = None) -> None:
    if picture.alpha is not None and not picture.alpha.any():
        raise RefusedError("fully transparent", "no pixel can be seen", path)


def _picture(file: BinaryIO, max_pixels: int) -> Picture:
    with _opened(file, max_pixels) as image:
        _check_header(image, max_pixels)
        mode, notes = image.mode, _notes(image, file)
        shown = ImageOps.exif_transpose(image)
        if shown.mode.startswith("I;16"):
            wide = np.asarray(shown).astype(np.uint32)
            shown = Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
        alpha = None
        if shown.has_transparency_data:
            shown = shown.convert("RGBA")
            alpha = np.asarray(shown.getchannel("A"))
        pixels = np.asarray(shown.convert("RGB"))
    return Picture(pixels, alpha, _is_grey(mode, file), mode, notes)


@contextmanager
def _opened(file: BinaryIO, max_pixels: int) -> Iterator[Image.Image]:
    """Open an image; whatever its decoder raises until the end of the block is a refusal."""
    start = file.read(8)
    if not start:
        raise RefusedError("empty file", "0 bytes")
    file.seek(0)
    # Pillow warns where we refuse or convert. `catch_warnings` would race between the threads that decode.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        with Image.open(file, formats=FORMATS) as image:
            yield image
    except (RefusedError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        wanted = "neither PNG, JPEG, WebP, BMP nor TIFF"
        raise RefusedError("not an image", f"{wanted}; it begins with {start!r}") from error
    except Image.DecompressionBombError as error:
        # Pillow's own limit is another one than ours.
        found = next(
            (f"{int(word.strip('(')):,}" for word in str(error).split() if word.strip("(").isdigit()), "very many"
        )
        raise RefusedError("too many pixels", f"{found}; at most {max_pixels / 1e6:g} million") from error
    except Exception as error:  # a decoder that meets hostile bytes may raise anything
        kind = "truncated" if "truncated" in str(error).lower() else "damaged"
        raise RefusedError(kind, f"{error}" or type(error).__name__) from error


def _check_header(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise RefusedError("too many pixels", f"{width}x{height}; at most {max_pixels / 1e6:g} million")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise RefusedError("several frames", f"{frames} in one {image.format} file")
    if image.mode in ("I", "F"):
        numbers = "integers" if image.mode == "I" else "floating-point numbers"
        raise RefusedError("unsupported depth", f"32-bit {numbers}: their range is unknown; save 8 or 16 bits")


def _notes(image: Image.Image, file: BinaryIO) -> tuple[str, ...]:
    notes = []
    if image.mode not in ("RGB", "RGBA"):
        notes.append(f"{image.mode} converted")
    if _is_deep(image, file):
        notes.append("16 bits reduced to 8")
    if image.has_transparency_data:
        notes.append("transparency flattened")
    if image.getexif().get(0x0112, 1) != 1:
        notes.append("turned upright")
    return tuple(notes)


def _is_deep(image: Image.Image, file: BinaryIO) -> bool:
    """Tell whether channels have 16 bits, which Pillow's mode hides for RGB."""
    if image.mode.startswith("I;16"):
        return True
    if image.format == "PNG":
        return _png_header(file)[0] == 16
    tags: Any = getattr(image, "tag_v2", {})
    return max(tags.get(258, (8,)), default=8) > 8


def _is_grey(mode: str, file: BinaryIO) -> bool:
    # Pillow opens a PNG of 16-bit grey and alpha as RGBA.
    return mode in ("1", "L", "LA", "La") or mode.startswith("I;16") or (mode == "RGBA" and _png_header(file)[1] == 4)


def _png_header(file: BinaryIO) -> tuple[int, int]:
    """Return bit depth and colour type of a PNG; of anything else, numbers that no PNG has."""
    here = file.tell()
    file.seek(0)
    start = file.read(26)
    file.seek(here)
    return (start[24], start[25]) if start.startswith(b"\x89PNG") and len(start) == 26 else (-1, -1)
