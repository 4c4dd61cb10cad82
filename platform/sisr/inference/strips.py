"""A picture enlarged in strips from the top, each at once as 8-bit pixels with the channels that the picture had."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sisr.data.bicubic import resize
from sisr.data.images import Picture
from sisr.inference.tiled import TiledImage
from sisr.inference.transparency import spread_colours
from sisr.recipe import Generator

Pixels = NDArray[np.uint8]
ROWS = 16  # lr px, of a strip
SUPPORT = 3  # px that bicubic upscaling looks beyond each side, and one to spare


@dataclass(frozen=True)
class Strip:
    """Rows `start` .. `stop` - 1 of the picture, enlarged: (scale * (stop - start), scale * w, channels)."""

    start: int
    stop: int
    pixels: Pixels


class Enlargement:
    """One picture on its way through a generator.

    A grey picture goes through it as three equal channels, and the mean of what comes back is its result; transparency
    is enlarged by bicubic interpolation, and colours as if nothing were hidden (`spread_colours`).

    Args:
        generator: See `sisr.inference.tiled.upscale`.
        picture: What to enlarge.
        tile: See `sisr.inference.tiled.upscale`.
        halo: See `sisr.inference.tiled.upscale`.
    """

    def __init__(
        self, generator: Generator, picture: Picture, tile: int | None = None, halo: int | None = None
    ) -> None:
        self._original, self._picture = picture, spread_colours(picture)
        self._scale = generator.tiling.scale
        self._like = next(generator.parameters(), torch.empty(0))
        height, width = picture.pixels.shape[:2]
        self.width, self.height = self._scale * width, self._scale * height
        self.channels = (1 if picture.grey else 3) + (picture.alpha is not None)
        self._image = TiledImage(generator, height, width, self._read, tile, halo)
        self.num_passes = self._image.num_passes

    @property
    def memory_bytes(self) -> float:
        """What the largest tile's forward pass takes, by an estimate."""
        return self._image.memory_bytes

    def strips(self, on_pass: Callable[[], None] = lambda: None) -> Iterator[Strip]:
        """Yield the strips from the top; `on_pass` is called `num_passes` times."""
        top = 0
        for pieces in self._image.rows(on_pass):
            band = np.concatenate([self._to_pixels(piece) for piece in pieces], axis=1)
            bottom = top + len(band) // self._scale
            for start in range(top, bottom, ROWS):
                stop = min(start + ROWS, bottom)
                colour = band[self._scale * (start - top) : self._scale * (stop - top)]
                yield Strip(start, stop, self._with_alpha(colour, start, stop))
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

    def _with_alpha(self, colour: Pixels, start: int, stop: int) -> Pixels:
        alpha = self._picture.alpha
        if alpha is None:
            return colour
        return np.concatenate([colour, self._bicubic(lambda rows: alpha[rows, :, None], start, stop)], axis=2)

    def _bicubic(self, read: Callable[[slice], Pixels], start: int, stop: int) -> Pixels:
        first, last = max(0, start - SUPPORT), min(len(self._picture.pixels), stop + SUPPORT)
        enlarged = resize(read(slice(first, last)), self._scale)
        return enlarged[self._scale * (start - first) : self._scale * (stop - first)]


def native(picture: Picture, rows: slice) -> Pixels:
    """Return rows of a picture with the channels that its file had: (h, w, 1 .. 4)."""
    colour = picture.pixels[rows, :, :1] if picture.grey else picture.pixels[rows]
    return colour if picture.alpha is None else np.concatenate([colour, picture.alpha[rows, :, None]], axis=2)
