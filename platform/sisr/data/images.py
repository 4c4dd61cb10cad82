"""From one image file to pixels, or a reason why not.

| what is found | what becomes of it |
|---|---|
| grey, 1-bit, palette, CMYK, YCbCr | converted |
| 12-bit and 16-bit grey | scaled to 8 bits, rounded |
| 48-bit RGB, 64-bit RGBA | upper 8 bits of each channel; of PNG all 16, where asked for |
| transparency | flattened on white; nothing but transparency: refused |
| EXIF orientation 2 to 8 | turned upright before anything else looks at the size |
| profiles, EXIF and texts that can't be read | left out, with a note |
| several frames or pages | refused (a phone's second picture in a JPEG is ignored) |
| more pixels than allowed | refused from the header, before decoding |
| 32-bit integers or floats, and samples whose meaning is not said | refused: they would have to be guessed |
| empty, truncated, damaged, another format, unreadable | refused |

A flipped byte inside a JPEG decodes without complaint: only the content hash can tell.
"""

import hashlib
import io
import re
import stat
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sisr.data.formats import OPEN, RefusedError, identify, png, tiff
from sisr.data.metadata import NO_METADATA, ORIENTATION, Metadata, read_metadata, turned

MAX_PIXELS = 50_000_000
MAX_BYTES = 1 << 30
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr")  # and "I;16..."
UNSUPPORTED = re.compile("unknown pixel mode|cannot handle|unknown data organization|unsupported", re.IGNORECASE)


@dataclass(frozen=True)
class Picture:
    """A decoded image, upright."""

    pixels: NDArray[np.uint8]  # (h, w, 3), RGB, not flattened
    alpha: NDArray[np.uint8] | None  # (h, w); None: opaque by format
    grey: bool  # the file holds one channel of colour; the three channels are equal
    mode: str = "RGB"  # the file's mode in Pillow's words
    notes: tuple[str, ...] = ()  # what was converted or left out
    icc: bytes | None = None  # the colour profile, where it describes `pixels`: not after conversion from CMYK
    deep: NDArray[np.uint16] | None = None  # (h, w, 3 or, with alpha, 4): the same in the 16 bits that a PNG had
    metadata: Metadata = NO_METADATA


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
    notes: tuple[str, ...] = ()  # what was converted or left out
    lr_sha256: str = ""  # of the content of the lr that is given with it; empty where none is


def decode(source: Path | bytes) -> NDArray[np.uint8]:
    """Return pixels of a file, or of its content: uint8 (h, w, 3), RGB, upright, transparency flattened on white.

    Raises:
        RefusedError: It can't be used; the message names the file and the reason.
    """
    picture = decode_with_alpha(source)
    with _named(source):
        return flatten(picture)


def decode_with_alpha(source: Path | bytes, *, max_pixels: int = MAX_PIXELS, everything: bool = False) -> Picture:
    """Return the image in a file, or its content, with transparency apart; refused before decoding if it is too large.

    `everything` asks for `deep` and `metadata`, too.

    Raises:
        RefusedError: It can't be used; the message names the file and the reason.
    """
    with _named(source):
        if isinstance(source, bytes):
            return _picture(source, "", max_pixels, everything)
        return _picture(_read(source), source.suffix, max_pixels, everything)


def examine(path: Path) -> tuple[Verdict, NDArray[np.uint8] | None]:
    """Return the verdict on the file and, where it is good, its pixels as `decode` gives them, from one reading.

    Never raises for what the file holds.
    """
    size, digest = 0, ""
    try:
        size = path.stat().st_size
        data = _read(path)
        size, digest = len(data), hashlib.sha256(data).hexdigest()
        picture = _picture(data, path.suffix, MAX_PIXELS)
        pixels = flatten(picture)
    except RefusedError as error:
        return Verdict(size, digest, "", 0, 0, error.kind, error.detail), None
    except OSError as error:
        return Verdict(size, digest, "", 0, 0, "unreadable", error.strerror or str(error)), None
    height, width = pixels.shape[:2]
    return Verdict(size, digest, picture.mode, width, height, notes=picture.notes), pixels


def flatten(picture: Picture) -> NDArray[np.uint8]:
    """Return the picture's pixels, uint8 (h, w, 3), laid over white where they are transparent.

    Raises:
        RefusedError: No pixel can be seen.
    """
    if picture.alpha is None:
        return picture.pixels
    if not picture.alpha.any():
        raise RefusedError("fully transparent", "no pixel can be seen")
    alpha = picture.alpha[..., None].astype(np.uint16)
    return ((picture.pixels * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


@contextmanager
def _named(source: Path | bytes) -> Iterator[None]:
    """Let a refusal name the file that it is about."""
    path = source if isinstance(source, Path) else None
    try:
        yield
    except RefusedError as error:
        raise RefusedError(error.kind, error.detail, path) from error.__cause__
    except OSError as error:
        raise RefusedError("unreadable", error.strerror or str(error), path) from error


def _read(path: Path) -> bytes:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):  # before it is opened: a pipe would wait for a writer
        raise RefusedError("unreadable", "not a regular file")
    if found.st_size > MAX_BYTES:
        raise RefusedError("too many bytes", f"{found.st_size:,}; at most {MAX_BYTES:,}")
    return path.read_bytes()


def _picture(data: bytes, suffix: str, max_pixels: int, everything: bool = False) -> Picture:
    name, deep = identify(data, suffix), None
    with _refusals():
        chunks = png.read(data) if name == "PNG" else png.Png(data, colour_type=-1)
        layout = tiff.read(data) if name == "TIFF" else tiff.Layout(bits=(chunks.depth,))
        with OPEN[name](io.BytesIO(chunks.content)) as image:
            _check_header(image, layout, max_pixels)
            if name != "TIFF":  # which Pillow turns while it loads, and then no longer knows how
                image.load()
            mode, (turn, unreadable) = image.mode, _orientation(image)
            samples, alpha = _samples(image, layout, chunks)
            is_grey = mode in ("1", "L", "LA", "La") or mode.startswith("I;16")
            is_grey = is_grey or chunks.colour_type in (png.GREY, png.GREY_WITH_ALPHA)
            icc: bytes = image.info.get("icc_profile") or b""
            metadata = read_metadata(image) if everything else NO_METADATA
        if everything and name == "PNG" and chunks.depth == 16:
            found = png.samples(chunks, mode)
            deep = found if found is not None and (found.shape[2] == 4) == (alpha is not None) else None
    notes = [f"{mode} converted"] if mode not in ("RGB", "RGBA") else []
    if max(layout.bits) > 8:
        notes.append(f"{max(layout.bits)} bits reduced to 8")
    if alpha is not None:
        notes.append("transparency flattened")
    if turn in TURNS:
        notes.append("turned upright")
        if name != "TIFF":
            samples = samples.transpose(TURNS[turn])
            alpha = alpha.transpose(TURNS[turn]) if alpha else None
        deep = None if deep is None else turned(deep, turn)
    notes += [f"{what} can't be read: left out" for what in (*dict.fromkeys(chunks.dropped), *unreadable)]
    pixels, opacity = np.asarray(samples.convert("RGB")), None if alpha is None else np.asarray(alpha)
    # A profile's header names its colour space at byte 16.
    described = icc[16:20] == (b"GRAY" if is_grey else b"RGB ")
    return Picture(pixels, opacity, is_grey, mode, tuple(notes), icc if described else None, deep, metadata)


def _samples(image: Image.Image, layout: tiff.Layout, chunks: png.Png) -> tuple[Image.Image, Image.Image | None]:
    """Return colours of 8 bits, and the alpha channel where there is one; neither is turned."""
    image.load()
    transparent = chunks.alpha(np.asarray(image)) if chunks.transparent else None
    alpha = None if transparent is None else Image.fromarray(transparent)
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint32)
        # That 0 is white Pillow heeds up to 8 bits only.
        wide = layout.largest - wide if layout.photometric == tiff.MIN_IS_WHITE else wide
        return Image.fromarray(((wide * 255 + layout.largest // 2) // layout.largest).astype(np.uint8)), alpha
    if image.has_transparency_data:
        whole = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        return whole, whole.getchannel("A")
    return image, alpha


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn whatever a decoder raises into a refusal."""
    # Pillow warns where we refuse or convert. `catch_warnings` would race between the threads that decode.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        yield
    except (RefusedError, MemoryError):
        raise
    except Exception as error:  # a decoder that meets hostile bytes may raise anything
        text = f"{error}" or type(error).__name__
        if UNSUPPORTED.search(text):
            raise RefusedError("unsupported pixels", text) from error
        ended = (struct.error, IndexError, EOFError)
        is_cut = "truncated" in text.lower() or isinstance(error, ended) or isinstance(error.__cause__, ended)
        raise RefusedError("truncated" if is_cut else "damaged", text) from error


def _check_header(image: Image.Image, layout: tiff.Layout, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise RefusedError("too many pixels", f"{width}x{height}; at most {max_pixels / 1e6:g} million")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise RefusedError("several frames", f"{frames} in one {image.format} file")
    if image.mode in ("I", "F"):
        numbers = "integers" if image.mode == "I" else "floating-point numbers"
        raise RefusedError("unsupported depth", f"32-bit {numbers}: their range is unknown; save 8 or 16 bits")
    if image.mode not in MODES and not image.mode.startswith("I;16"):
        raise RefusedError("unsupported pixels", f"{image.mode} colours; save RGB")


def _orientation(image: Image.Image) -> tuple[object, list[str]]:
    """Return EXIF's orientation, whatever stands there, and what of the EXIF can't be read."""
    try:
        return image.getexif().get(ORIENTATION), []
    except Exception:  # side data never decides whether a picture can be used
        return None, ["EXIF"]
