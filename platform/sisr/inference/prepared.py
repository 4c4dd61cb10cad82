"""A generator as one command uses it: in a number format that was tried on the user's own picture, at a known speed."""

import time

import numpy as np
import torch
from torch import Tensor

from sisr.data.bicubic import mirrored_index
from sisr.data.images import Picture
from sisr.inference.variants import InFormat
from sisr.recipe import Generator

SAMPLE = 128  # px, side of the piece of a picture that is tried
SAME = 0.999  # of the pixels may differ by one grey level at most, for a shorter format to be used
TIMED_FROM = 4 * SAMPLE**2  # px, of the smallest picture whose time is told beforehand


class Prepared:
    """A generator, the number format it computes in, and how fast that is.

    Args:
        generator: In evaluation mode.
        number_format: `fp32`, `bf16` or `fp16`.
        tried: A shorter format is used only where it makes the same of the first picture.
    """

    def __init__(self, generator: Generator, number_format: str = "fp32", *, tried: bool = False) -> None:
        self._exact, self._format, self._tried = generator, number_format, tried
        self.generator = generator if number_format == "fp32" else InFormat(generator, number_format)
        self._seconds_per_px, self._timed_px = 0.0, 0  # and on how many px that was measured
        self.note = ""  # what was found out about the format; empty where there was nothing to find

    @property
    def number_format(self) -> str:
        """What it computes in."""
        return "fp32" if self.generator is self._exact else self._format

    def look_at(self, picture: Picture) -> None:
        """Try the format on the first picture, and time the first that is large."""
        height, width = picture.pixels.shape[:2]
        if self._tried and self._format != "fp32":
            self._try(self._sample(picture.pixels))
        elif self._timed_px < SAMPLE**2 and height * width >= TIMED_FROM:
            self._timed(self.generator, self._sample(picture.pixels))

    def seconds(self, num_px: int) -> float | None:
        """Return how long so many px of lr will take; None: that is not known."""
        return num_px * self._seconds_per_px if self._timed_px else None

    def took(self, num_px: int, seconds: float) -> None:
        """Learn from what has been done."""
        if num_px >= SAMPLE**2:
            self._seconds_per_px, self._timed_px = seconds / num_px, num_px

    def _try(self, lr: Tensor) -> None:
        self._tried = False
        exact, short = (self._timed(each, lr) for each in (self._exact, self.generator))
        levels = [(255 * sr.double()).round().clamp(0, 255) for sr in (exact, short)]
        same = float(((levels[0] - levels[1]).abs() <= 1).double().mean())
        if same < SAME:
            self.generator = self._exact
            self._timed(self._exact, lr)
            self.note = (
                f"float32: in {self._format} {1 - same:.1%} of a sample's values differ by more than a grey level"
            )

    @torch.inference_mode()
    def _timed(self, generator: Generator, lr: Tensor) -> Tensor:
        generator(lr[..., : self._exact.tiling.padded(16), : self._exact.tiling.padded(16)])  # the first call is slow
        begun = time.perf_counter()
        sr = generator(lr)
        if lr.device.type == "cuda":
            torch.cuda.synchronize(lr.device)
        self._timed_px = lr[0, 0].numel()
        self._seconds_per_px = (time.perf_counter() - begun) / self._timed_px
        return sr

    def _sample(self, pixels: np.ndarray) -> Tensor:
        """Return the picture's middle as lr (1, 3, h, w), mirrored where the picture is too small."""
        tiling, like = self._exact.tiling, next(self._exact.parameters(), torch.empty(0))
        places = []
        for size in pixels.shape[:2]:
            side = tiling.padded(min(size, SAMPLE))
            start = max(0, size - side) // 2
            places.append(mirrored_index(start, start + side, size).numpy())
        piece = np.ascontiguousarray(pixels[places[0][:, None], places[1]])
        return torch.from_numpy(piece).permute(2, 0, 1)[None].to(like.device).to(like.dtype) / 255
