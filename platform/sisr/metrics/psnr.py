"""Peak signal-to-noise ratio, in dB: higher is better.

One value per image; the field's tables average these over the images of a set (never the squared errors).
"""

import torch
from torch import Tensor

from sisr.metrics.planes import without_border


def psnr(sr: Tensor, hr: Tensor, border: int) -> Tensor:
    """Return the PSNR of images (n, c, h, w) on a scale of 0 .. 255, over all their channels: (n,) in dB, float64.

    It is infinite for equal images; `border` px are left out on each side.
    """
    sr, hr = without_border(sr, hr, border)
    return 10 * torch.log10(255**2 / (sr - hr).square().mean(dim=(1, 2, 3)))
