"""From one image file to a larger one, in strips from the top, each at once as pixels of 8 or 16 bits."""

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sisr.data.bicubic import resize
from sisr.data.images import MAX_PIXELS, Picture, decode_with_alpha
from sisr.data.metadata import NO_METADATA
from sisr.data.writing import SAVING, Aside, Saving, check, encoded, written
from sisr.errors import OutOfMemoryError
from sisr.inference.tiled import TiledImage
from sisr.inference.transparency import deep_colours, native, spread_colours
from sisr.pictures.labelled import header_pixels
from sisr.recipe import Generator

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
Bytes = NDArray[np.uint8]
ROWS = 16  # lr px, of a strip
SUPPORT = 3  # px that bicubic upscaling looks beyond each side, and one to spare


@dataclass(frozen=True)
class Enlarged:
    """What an enlargement gives."""

    width: int  # px
    height: int  # px
    notes: tuple[str, ...]  # what was converted on reading


@dataclass(frozen=True)
class Strip:
    """Rows `start` .. `stop` - 1 of the picture, enlarged: (scale * (stop - start), scale * w, channels)."""

    start: int
    stop: int
    pixels: Pixels


class Enlargement:
    """One picture on its way through a generator.

    A grey picture goes through it as three equal channels, and the mean of what comes back is its result; transparency
    is enlarged by bicubic interpolation, and colours as if nothing were hidden (`spread_colours`). `tile`, `halo` and
    `memory` are those of `sisr.inference.tiled.TiledImage`. `depth` is 8, or 16 bits where the picture has so many.
    """

    def __init__(
        self,
        generator: Generator,
        picture: Picture,
        tile: int | None = None,
        halo: int | None = None,
        *,
        depth: int = 8,
        memory: float | None = None,
    ) -> None:
        self._original, self._picture = picture, spread_colours(picture)
        self.depth = depth if picture.deep is not None else 8
        self._deep = deep_colours(picture, self._picture) if self.depth == 16 else None
        self._scale = generator.tiling.scale
        self._like = next(generator.parameters(), torch.empty(0))
        height, width = picture.pixels.shape[:2]
        self.channels = (1 if picture.grey else 3) + (picture.alpha is not None)
        self._image = TiledImage(generator, height, width, self._read, tile, halo, memory)
        self.num_passes, self.num_px = self._image.num_passes, self._image.num_px
        untrue = ("transparency flattened", *(("16 bits reduced to 8",) if self.depth == 16 else ()))
        notes = [note for note in (*picture.notes, self._image.note) if note and note not in untrue]
        self.result = Enlarged(self._scale * width, self._scale * height, tuple(notes))

    @property
    def memory_bytes(self) -> float:
        """What the largest tile's forward pass takes, by an estimate."""
        return self._image.memory_bytes

    def strips(self, on_pass: Callable[[], None] = lambda: None) -> Iterator[Strip]:
        """Yield the strips from the top; `on_pass` is called `num_passes` times."""
        top, alpha = 0, self._picture.alpha
        for pieces in self._image.rows(on_pass):
            band = np.concatenate([self._to_pixels(piece) for piece in pieces], axis=1)
            bottom = top + len(band) // self._scale
            for start in range(top, bottom, ROWS):
                stop = min(start + ROWS, bottom)
                colour = band[self._scale * (start - top) : self._scale * (stop - top)]
                if alpha is not None:
                    colour = np.concatenate([colour, self._alpha(start, stop)], axis=2)
                yield Strip(start, stop, colour)
            top = bottom

    def beside(self, strip: Strip) -> Bytes:
        """Return the strip of a comparison three times as wide: pixels repeated | bicubic | the generator's; 8 bits."""
        original = native(self._original, slice(strip.start, strip.stop))
        repeated = original.repeat(self._scale, axis=0).repeat(self._scale, axis=1)
        smooth = self._bicubic(lambda rows: native(self._picture, rows), strip.start, strip.stop)
        made = strip.pixels if self.depth == 8 else np.rint(strip.pixels / 257).astype(np.uint8)
        return np.concatenate([repeated, smooth, made], axis=1)

    def _read(self, rows: Tensor, columns: Tensor) -> Tensor:
        place = rows.numpy()[:, None], columns.numpy()
        found = self._picture.pixels[place] if self._deep is None else self._deep[place].astype(np.int32)
        pixels = torch.from_numpy(found).permute(2, 0, 1)[None]
        return pixels.to(self._like.device).to(self._like.dtype) / (2**self.depth - 1)

    def _to_pixels(self, sr: Tensor) -> Pixels:
        if self._picture.grey:
            sr = sr.mean(dim=1, keepdim=True)
        largest = 2**self.depth - 1
        levels = (largest * sr[0]).round().clamp(0, largest).permute(1, 2, 0)
        return levels.int().cpu().numpy().astype(np.uint16) if self.depth == 16 else levels.byte().cpu().numpy()

    def _alpha(self, start: int, stop: int) -> Pixels:
        alpha, deep = self._picture.alpha, self._deep
        assert alpha is not None
        if deep is None:
            return self._bicubic(lambda rows: alpha[rows, :, None], start, stop)
        enlarged = self._bicubic(lambda rows: deep[rows, :, 3:].astype(np.float64), start, stop)
        return np.rint(enlarged.clip(0, 2**16 - 1)).astype(np.uint16)

    def _bicubic(self, read: Callable[[slice], NDArray[Any]], start: int, stop: int) -> NDArray[Any]:
        first, last = max(0, start - SUPPORT), min(len(self._picture.pixels), stop + SUPPORT)
        enlarged = resize(read(slice(first, last)), self._scale)
        return enlarged[self._scale * (start - first) : self._scale * (stop - first)]


Begin = Callable[[Enlargement], AbstractContextManager[Callable[[], None]]]


def enlarge(
    generator: Generator, source: Path, target: Path, comparison: Path | None = None, **options: Any
) -> Enlarged:
    """Enlarge an image file; arguments are those of `enlarge_picture`.

    Raises:
        DataError: The source can't be read, or the target's format can't hold the result.
        OutOfMemoryError: A tile is too large.
    """
    return enlarge_picture(generator, decode_with_alpha(source, everything=True), target, comparison, **options)


def enlarge_picture(
    generator: Generator,
    picture: Picture,
    target: Path,
    comparison: Path | None = None,
    *,
    tile: int | None = None,
    halo: int | None = None,
    saving: Saving = SAVING,
    strip: bool = False,
    made_by: str = "model",
    begin: Begin = lambda _: nullcontext(lambda: None),
) -> Enlarged:
    """Enlarge a picture into an image file; an older one is replaced.

    Grey and transparent images keep their channels, and 16 bits where the target is a PNG; EXIF orientation is applied,
    the colour profile and, unless `strip` is asked for, the other metadata are kept.

    `comparison` is also written, three times as wide: source pixels repeated | bicubic | result, each below its name,
    which of the result is `made_by`. `tile` and `halo` are those of `sisr.inference.tiled.upscale`. `begin` is called
    before the work; what its context gives is called `num_passes` times.

    Raises:
        DataError: The target's format can't hold the result.
        OutOfMemoryError: A tile is too large.
    """
    depth = 16 if target.suffix.lower() == ".png" else 8
    with _memory_errors(target):
        enlargement = Enlargement(generator, picture, tile, halo, depth=depth)
    width, height, channels = enlargement.result.width, enlargement.result.height, enlargement.channels
    check(target, width, height, channels)
    titles = header_pixels(("input pixels", "bicubic", made_by), width, channels) if comparison else None
    high = height + (0 if titles is None else len(titles))
    if comparison:
        check(comparison, 3 * width, high, channels)
    aside = Aside(picture.icc, NO_METADATA if strip else picture.metadata.of_size(width, height))
    with _memory_errors(target), begin(enlargement) as on_pass, ExitStack() as files:
        into = written(target, width, height, channels, depth=enlargement.depth, aside=aside, saving=saving)
        result = files.enter_context(into)
        wide = comparison and written(comparison, 3 * width, high, channels, aside=Aside(picture.icc), saving=saving)
        beside = wide and files.enter_context(wide)
        if beside and titles is not None:
            beside.write(titles)
        for piece in enlargement.strips(on_pass):
            result.write(piece.pixels)
            if beside:
                beside.write(enlargement.beside(piece))
    return enlargement.result


def enlarge_bytes(
    generator: Generator,
    data: bytes,
    suffix: str,
    *,
    saving: Saving = SAVING,
    max_pixels: int = MAX_PIXELS,
    memory: float | None = None,
    on_pass: Callable[[], None] = lambda: None,
) -> tuple[bytes, Enlarged]:
    """Return the content of an image file enlarged as `enlarge` does, again as a file's content.

    `suffix`, .png, .jpg, .webp or .avif, is the format to return; a picture of more than `max_pixels` is refused before
    it is decoded. `memory` is in bytes, by default what is free; `on_pass` is called after each part of the work.

    Raises:
        DataError: The content can't be read, or the format can't hold the result.
        OutOfMemoryError: A tile is too large.
    """
    picture = decode_with_alpha(data, max_pixels=max_pixels)
    with _memory_errors("the picture"):
        enlargement = Enlargement(generator, picture, memory=memory)
    width, height, channels = enlargement.result.width, enlargement.result.height, enlargement.channels
    check(Path(f"the result as {suffix}"), width, height, channels)
    file = io.BytesIO()
    with (
        _memory_errors(f"{width}x{height} px"),
        encoded(file, suffix, width, height, channels, aside=Aside(picture.icc), saving=saving) as result,
    ):
        for strip in enlargement.strips(on_pass):
            result.write(strip.pixels)
    return file.getvalue(), enlargement.result


@contextmanager
def _memory_errors(path: Path | str) -> Iterator[None]:
    """Turn a lack of memory into an error that says what to do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch has its own type for devices only
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        raise OutOfMemoryError(f"{path}: out of memory; try smaller tiles, such as --tile 128") from error
    finally:
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
