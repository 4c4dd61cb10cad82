"""Structural similarity, at most 1: higher is better.

Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004.
https://doi.org/10.1109/TIP.2003.819861

As its authors' program computes it and papers quote it: an 11x11 gaussian window of sigma 1.5, K = (0.01, 0.03), peak
255, biased variances, averaged where the window lies wholly inside.
"""

import math

import torch
from torch import Tensor

from sisr.metrics.planes import without_border

WINDOW = 11
SIGMA = 1.5
BAND = 32  # rows computed at a time


def ssim(sr: Tensor, hr: Tensor, border: int) -> Tensor:
    """Return the SSIM of images (n, c, h, w) on a scale of 0 .. 255, averaged over channels: (n,), float64.

    It is 1 for equal images; `border` px are left out on each side.

    Raises:
        ValueError: Less than 11x11 pixels remain.
    """
    sr, hr = without_border(sr, hr, border)
    if min(hr.shape[2:]) < WINDOW:
        raise ValueError(f"SSIM needs at least {WINDOW}x{WINDOW} pixels inside the border, got {tuple(hr.shape[2:])}")
    n, channels, height, width = hr.shape
    total = hr.new_zeros(n)
    for top in range(0, height - WINDOW + 1, BAND):  # bands stay in the processor's cache
        rows = slice(top, top + BAND + WINDOW - 1)
        total += _map(sr[:, :, rows], hr[:, :, rows]).sum(dim=(1, 2, 3))
    return total / (channels * (height - WINDOW + 1) * (width - WINDOW + 1))


def _map(sr: Tensor, hr: Tensor) -> Tensor:
    """Return the similarity at each place of the window: (n, c, h - 10, w - 10)."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_sr, mean_hr, square_sr, square_hr, product = _blur(torch.stack([sr, hr, sr * sr, hr * hr, sr * hr]))
    means = mean_sr * mean_hr
    squares = mean_sr**2 + mean_hr**2

    luminance = (2 * means + c1) / (squares + c1)
    structure = (2 * (product - means) + c2) / (square_sr + square_hr - squares + c2)
    return luminance * structure


def _blur(planes: Tensor) -> Tensor:
    """Return the window's mean at each of its places. torch has no quick convolution of float64."""
    weights = [math.exp(-0.5 * ((tap - WINDOW // 2) / SIGMA) ** 2) for tap in range(WINDOW)]
    for axis in (-2, -1):
        length = planes.shape[axis] - WINDOW + 1
        total = torch.zeros_like(planes.narrow(axis, 0, length))
        for tap, weight in enumerate(weights):
            total.add_(planes.narrow(axis, tap, length), alpha=weight / sum(weights))
        planes = total
    return planes
