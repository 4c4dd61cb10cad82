"""Images that sr is compared with, as a protocol has them: hr is cut, and lr is made of it or given."""

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sisr.data.bicubic import resize
from sisr.errors import DataError
from sisr.evaluation.judged import Pixels, batch
from sisr.metrics.catalogue import METRICS
from sisr.metrics.perceptual import Distance
from sisr.metrics.planes import luma
from sisr.metrics.protocol import Protocol
from sisr.metrics.ssim import WINDOW


class Original(NamedTuple):
    """An image that sr is compared with."""

    name: str
    hr: Pixels
    lr: Pixels | None = None  # None: made from hr as the protocol says


def cut(original: Original, scale: int, distance: Distance | None) -> Pixels:
    """Return hr, cut at the bottom and right to a multiple of the scale.

    Raises:
        DataError: It is too small to be measured, or its lr has another size.
    """
    name, pixels, lr = original
    if lr is not None and lr.shape[:2] != (pixels.shape[0] // scale, pixels.shape[1] // scale):
        small, large = (f"{image.shape[1]}x{image.shape[0]} px" for image in (lr, pixels))
        raise DataError(f"{name}: its lr has {small} and hr {large}: that is not x{scale}, which is measured")
    height, width = (side // scale * scale for side in pixels.shape[:2])
    least = WINDOW + 2 * scale
    if min(height, width) < least:
        size = f"{pixels.shape[1]}x{pixels.shape[0]} px"
        raise DataError(f"{name} is {size}: too small to measure {scale}x on; it needs at least {least} px a side")
    if distance and min(height, width) < (needed := METRICS[distance.name].least):
        raise DataError(
            f"{name} is {width}x{height} px: {distance.name} needs at least {needed} px a side; choose swd or none"
        )
    return pixels[:height, :width].copy()


def hr_of(pixels: Pixels, rule: Protocol) -> Pixels:
    """Return an image as the protocol has it: 8-bit RGB, or luma."""
    if rule.luma_first:
        return pixels if pixels.ndim == 2 else luma(batch(pixels))[0, 0].round().byte().numpy()
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


def lr_of(original: Original, hr: Pixels, scale: int, rule: Protocol) -> NDArray[Any]:
    """Return the lr that models start from: the given one, else made of hr, which is cut as the protocol wants it."""
    if original.lr is None:
        return resize(hr.astype(np.float64) if rule.luma_first else hr, Fraction(1, scale))
    return _given(original.lr, original.hr, rule)


def _given(lr: Pixels, hr: Pixels, rule: Protocol) -> NDArray[Any]:
    """Return the lr of an hr as the protocol has it: 8-bit RGB, or luma in double; grey is luma where hr is grey."""
    if rule.luma_first and hr.ndim == 2:
        return lr.astype(np.float64) if lr.ndim == 2 else lr.mean(axis=2)
    colour = lr.copy() if lr.ndim == 3 else np.repeat(lr[..., None], 3, axis=2)
    return luma(batch(colour))[0, 0].numpy() if rule.luma_first else colour
