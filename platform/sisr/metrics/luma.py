"""From RGB to the luma that super-resolution papers measure on."""

from torch import Tensor


def luma(rgb: Tensor) -> Tensor:
    """Return Y = 16 + 65.481 R + 128.553 G + 24.966 B, as MATLAB's `rgb2ycbcr` before it rounds.

    ITU-R BT.601, studio swing.

    Args:
        rgb: (n, 3, h, w) in [0, 1].

    Returns:
        (n, 1, h, w), float64, 16 .. 235.

    Raises:
        ValueError: `rgb` has another shape.
    """
    if rgb.ndim != 4 or rgb.shape[1] != 3:
        raise ValueError(f"luma needs RGB images (n, 3, h, w), got {tuple(rgb.shape)}")
    red, green, blue = rgb.double().unbind(1)
    return (16 + 65.481 * red + 128.553 * green + 24.966 * blue)[:, None]
