"""From RGB images to the planes that PSNR and SSIM compare, without the border."""

from collections.abc import Callable
from importlib import import_module

from torch import Tensor

from sisr.metrics.catalogue import Metric
from sisr.metrics.luma import luma

OfPlanes = Callable[[Tensor, Tensor, int], Tensor]  # planes (n, c, h, w) of 0 .. 255 of sr and hr, border -> (n,)


def of_planes(metric: Metric) -> OfPlanes:
    """Return the function that measures a metric of kind `pixels`."""
    function: OfPlanes = getattr(import_module(f"{__package__}.{metric.file}"), metric.file)
    return function


def measure(metric: Metric, sr: Tensor, hr: Tensor, border: int) -> Tensor:
    """Return a metric of kind `pixels` for each pair of images: (n,), float64.

    Args:
        metric: Of RGB channels together, or of the luma, whose peak is taken as 255 although it ends at 235: papers do.
        sr: (n, 3, h, w), RGB in [0, 1]; rounding to 8 bit is the caller's protocol.
        hr: Same.
        border: px left out on each side; the scale, by custom.
    """
    planes = [luma(images) if metric.channels == "Y" else 255 * images.double() for images in (sr, hr)]
    return of_planes(metric)(planes[0], planes[1], border)


def without_border(sr: Tensor, hr: Tensor, border: int) -> tuple[Tensor, Tensor]:
    """Return both batches in float64 without `border` pixels on each side.

    Args:
        sr: (n, c, h, w).
        hr: Same shape.
        border: px, at least 0.

    Raises:
        ValueError: The shapes differ, or the border leaves nothing.
    """
    if sr.shape != hr.shape or sr.ndim != 4:
        shapes = f"{tuple(sr.shape)}, {tuple(hr.shape)}"
        raise ValueError(f"sr and hr must be images (n, c, h, w) of one shape, got {shapes}")
    height, width = hr.shape[2:]
    if border < 0 or min(height, width) <= 2 * border:
        raise ValueError(f"a border of {border} px leaves nothing of {height}x{width} pixels")
    inside = (..., slice(border, height - border), slice(border, width - border))
    return sr[inside].double(), hr[inside].double()
