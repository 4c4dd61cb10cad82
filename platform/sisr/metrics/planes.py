"""What PSNR and SSIM do first: compare like with like, and leave out the border."""

from torch import Tensor


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
