"""Peak signal-to-noise ratio, in dB: higher is better.

One value per image; the field's tables average these over the images of a set (never the squared errors).
"""

import torch
from torch import Tensor

from sisr.metrics.luma import luma
from sisr.metrics.planes import without_border


def psnr_y(sr: Tensor, hr: Tensor, border: int) -> Tensor:
    """Return the PSNR of the luma, whose peak is taken as 255 although it ends at 235: papers do.

    Args:
        sr: (n, 3, h, w), RGB in [0, 1]; rounding to 8 bit is the caller's protocol.
        hr: Same.
        border: px left out on each side; the scale, by custom.

    Returns:
        dB, (n,), float64; infinite for equal images.
    """
    return psnr(luma(sr), luma(hr), border)


def psnr_rgb(sr: Tensor, hr: Tensor, border: int) -> Tensor:
    """Return the PSNR over all three channels together; arguments and result as in `psnr_y`."""
    return psnr(255 * sr.double(), 255 * hr.double(), border)


def psnr(sr: Tensor, hr: Tensor, border: int) -> Tensor:
    """Return the PSNR of images (n, c, h, w) on a scale of 0 .. 255, over all their channels: (n,) in dB, float64."""
    sr, hr = without_border(sr, hr, border)
    return 10 * torch.log10(255**2 / (sr - hr).square().mean(dim=(1, 2, 3)))
