"""Structural similarity, at most 1: higher is better.

Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004.
https://doi.org/10.1109/TIP.2003.819861

As its authors' program computes it and papers quote it: an 11x11 gaussian window of sigma 1.5, K = (0.01, 0.03), peak
255, biased variances, averaged where the window lies wholly inside.
"""

import torch
from torch import Tensor
from torch.nn import functional

from sisr.metrics.planes import without_border

WINDOW = 11
SIGMA = 1.5


def ssim(sr: Tensor, hr: Tensor, border: int) -> Tensor:
    """Return the SSIM of images (n, c, h, w) on a scale of 0 .. 255, averaged over channels: (n,), float64.

    It is 1 for equal images; `border` px are left out on each side.

    Raises:
        ValueError: Less than 11x11 pixels remain.
    """
    sr, hr = without_border(sr, hr, border)
    if min(hr.shape[2:]) < WINDOW:
        raise ValueError(f"SSIM needs at least {WINDOW}x{WINDOW} pixels inside the border, got {tuple(hr.shape[2:])}")
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_sr, mean_hr = _blur(sr), _blur(hr)
    variances = _blur(sr * sr) - mean_sr**2 + _blur(hr * hr) - mean_hr**2
    covariance = _blur(sr * hr) - mean_sr * mean_hr

    luminance = (2 * mean_sr * mean_hr + c1) / (mean_sr**2 + mean_hr**2 + c1)
    structure = (2 * covariance + c2) / (variances + c2)
    return (luminance * structure).mean(dim=(1, 2, 3))


def _blur(planes: Tensor) -> Tensor:
    n, c, height, width = planes.shape
    distance = torch.arange(WINDOW, dtype=planes.dtype, device=planes.device) - WINDOW // 2
    window = torch.exp(-0.5 * (distance / SIGMA) ** 2)
    window = window / window.sum()
    single = planes.reshape(n * c, 1, height, width)
    single = functional.conv2d(single, window.view(1, 1, WINDOW, 1))
    single = functional.conv2d(single, window.view(1, 1, 1, WINDOW))
    return single.reshape(n, c, *single.shape[2:])
