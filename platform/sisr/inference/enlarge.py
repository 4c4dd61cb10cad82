"""From one image file to a larger one, in strips from the top, each at once as 8-bit pixels."""

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sisr.data.bicubic import resize
from sisr.data.images import MAX_PIXELS, Picture, decode_with_alpha
from sisr.data.writing import SAVING, Saving, check, encoded, written
from sisr.errors import OutOfMemoryError
from sisr.inference.tiled import TiledImage
from sisr.inference.transparency import spread_colours
from sisr.recipe import Generator

Pixels = NDArray[np.uint8]
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
    is enlarged by bicubic interpolation, and colours as if nothing were hidden (`spread_colours`). `tile` and `halo`
    are those of `sisr.inference.tiled.upscale`.
    """

    def __init__(
        self, generator: Generator, picture: Picture, tile: int | None = None, halo: int | None = None
    ) -> None:
        self._original, self._picture = picture, spread_colours(picture)
        self._scale = generator.tiling.scale
        self._like = next(generator.parameters(), torch.empty(0))
        height, width = picture.pixels.shape[:2]
        notes = tuple(note for note in picture.notes if note != "transparency flattened")
        self.result = Enlarged(self._scale * width, self._scale * height, notes)
        self.channels = (1 if picture.grey else 3) + (picture.alpha is not None)
        self._image = TiledImage(generator, height, width, self._read, tile, halo)
        self.num_passes = self._image.num_passes

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
                    enlarged = self._bicubic(lambda rows: alpha[rows, :, None], start, stop)
                    colour = np.concatenate([colour, enlarged], axis=2)
                yield Strip(start, stop, colour)
            top = bottom

    def beside(self, strip: Strip) -> Pixels:
        """Return the strip of a comparison three times as wide: pixels repeated | bicubic | the generator's."""
        original = native(self._original, slice(strip.start, strip.stop))
        repeated = original.repeat(self._scale, axis=0).repeat(self._scale, axis=1)
        smooth = self._bicubic(lambda rows: native(self._picture, rows), strip.start, strip.stop)
        return np.concatenate([repeated, smooth, strip.pixels], axis=1)

    def _read(self, rows: Tensor, columns: Tensor) -> Tensor:
        pixels = torch.from_numpy(self._picture.pixels[rows.numpy()[:, None], columns.numpy()])
        return pixels.permute(2, 0, 1)[None].to(self._like.device).to(self._like.dtype) / 255

    def _to_pixels(self, sr: Tensor) -> Pixels:
        if self._picture.grey:
            sr = sr.mean(dim=1, keepdim=True)
        return (255 * sr[0]).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()

    def _bicubic(self, read: Callable[[slice], Pixels], start: int, stop: int) -> Pixels:
        first, last = max(0, start - SUPPORT), min(len(self._picture.pixels), stop + SUPPORT)
        enlarged = resize(read(slice(first, last)), self._scale)
        return enlarged[self._scale * (start - first) : self._scale * (stop - first)]


def native(picture: Picture, rows: slice) -> Pixels:
    """Return rows of a picture with the channels that its file had: (h, w, 1 .. 4)."""
    colour = picture.pixels[rows, :, :1] if picture.grey else picture.pixels[rows]
    return colour if picture.alpha is None else np.concatenate([colour, picture.alpha[rows, :, None]], axis=2)


Begin = Callable[[Enlargement], AbstractContextManager[Callable[[], None]]]


def enlarge(
    generator: Generator,
    source: Path,
    target: Path,
    comparison: Path | None = None,
    *,
    tile: int | None = None,
    halo: int | None = None,
    saving: Saving = SAVING,
    begin: Begin = lambda _: nullcontext(lambda: None),
) -> Enlarged:
    """Enlarge an image file; an older target is replaced.

    Grey and transparent images keep their channels, EXIF orientation is applied, the colour profile is kept.

    `comparison` is also written, three times as wide: source pixels repeated | bicubic | result. `tile` and `halo` are
    those of `sisr.inference.tiled.upscale`. `begin` is called before the work; what its context gives is called
    `num_passes` times.

    Raises:
        DataError: The source can't be read, or the target's format can't hold the result.
        OutOfMemoryError: A tile is too large.
    """
    picture = decode_with_alpha(source)
    enlargement = Enlargement(generator, picture, tile, halo)
    width, height, channels = enlargement.result.width, enlargement.result.height, enlargement.channels
    check(target, width, height, channels)
    if comparison:
        check(comparison, 3 * width, height, channels)
    with _memory_errors(source), begin(enlargement) as on_pass, ExitStack() as files:
        result = files.enter_context(written(target, width, height, channels, icc=picture.icc, saving=saving))
        wide = comparison and written(comparison, 3 * width, height, channels, icc=picture.icc, saving=saving)
        beside = wide and files.enter_context(wide)
        for strip in enlargement.strips(on_pass):
            result.write(strip.pixels)
            if beside:
                beside.write(enlargement.beside(strip))
    return enlargement.result


def enlarge_bytes(
    generator: Generator, data: bytes, suffix: str, *, saving: Saving = SAVING, max_pixels: int = MAX_PIXELS
) -> tuple[bytes, Enlarged]:
    """Return the content of an image file enlarged as `enlarge` does, again as a file's content.

    `suffix`, .png, .jpg or .webp, is the format to return; a picture of more than `max_pixels` is refused before it is
    decoded.

    Raises:
        DataError: The content can't be read, or the format can't hold the result.
        OutOfMemoryError: A tile is too large.
    """
    picture = decode_with_alpha(data, max_pixels=max_pixels)
    enlargement = Enlargement(generator, picture)
    width, height, channels = enlargement.result.width, enlargement.result.height, enlargement.channels
    check(Path(f"the result as {suffix}"), width, height, channels)
    file = io.BytesIO()
    with (
        _memory_errors(f"{width}x{height} px"),
        encoded(file, suffix, width, height, channels, icc=picture.icc, saving=saving) as result,
    ):
        for strip in enlargement.strips():
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
