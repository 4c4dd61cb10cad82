"""From RGB images to the planes, such as luma, that PSNR and SSIM compare without their border."""

from collections.abc import Callable, Iterable
from importlib import import_module

from torch import Tensor

from sisr.metrics.catalogue import Metric

OfPlanes = Callable[[Tensor, Tensor, int], Tensor]  # planes (n, c, h, w) of 0 .. 255 of sr and hr, border -> (n,)


def of_planes(metric: Metric) -> OfPlanes:
    """Return the function that measures a metric of kind `pixels`."""
    function: OfPlanes = getattr(import_module(f"{__package__}.{metric.file}"), metric.file)
    return function


def measure(metric: Metric, sr: Tensor, hr: Tensor, border: int) -> Tensor:
    """Return a metric of kind `pixels` for each pair of images: (n,), float64; arguments as in `measure_all`."""
    return measure_all([metric], sr, hr, border)[metric.name]


def measure_all(metrics: Iterable[Metric], sr: Tensor, hr: Tensor, border: int) -> dict[str, Tensor]:
    """Return metrics of kind `pixels`, by name, for each pair of images: (n,), float64.

    Args:
        metrics: Of RGB channels together, or of the luma, whose peak is taken as 255 although it ends at 235: papers
            do.
        sr: (n, 3, h, w), RGB in [0, 1], as is hr; rounding to 8 bit is the caller's protocol.
        hr: What sr is compared with.
        border: px left out on each side; the scale, by custom.
    """
    found: dict[str, Tensor] = {}
    planes: dict[str, tuple[Tensor, Tensor]] = {}
    for metric in metrics:
        if metric.channels not in planes:
            of = luma if metric.channels == "Y" else lambda images: 255 * images.double()
            planes[metric.channels] = (of(sr), of(hr))
        made, true = planes[metric.channels]
        found[metric.name] = of_planes(metric)(made, true, border)
    return found


def luma(rgb: Tensor) -> Tensor:
    """Return Y = 16 + 65.481 R + 128.553 G + 24.966 B, as MATLAB's `rgb2ycbcr` before it rounds: (n, 1, h, w), float64.

    ITU-R BT.601, studio swing: 16 .. 235.

    Args:
        rgb: (n, 3, h, w) in [0, 1].

    Raises:
        ValueError: `rgb` has another shape.
    """
    if rgb.ndim != 4 or rgb.shape[1] != 3:
        raise ValueError(f"luma needs RGB images (n, 3, h, w), got {tuple(rgb.shape)}")
    red, green, blue = rgb.double().unbind(1)
    return (16 + 65.481 * red + 128.553 * green + 24.966 * blue)[:, None]


def without_border(sr: Tensor, hr: Tensor, border: int) -> tuple[Tensor, Tensor]:
    """Return both batches (n, c, h, w) in float64 without `border` pixels, at least 0, on each side.

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
