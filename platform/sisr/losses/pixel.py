"""Distances between sr and hr (n, 3, h, w), averaged over everything; computed in float32 at least."""

import torch.nn.functional as F
from torch import Tensor

from sisr.nets.numeric import full_precision


def l1(sr: Tensor, hr: Tensor) -> Tensor:
    """Return the mean absolute difference."""
    return (full_precision(sr) - full_precision(hr)).abs().mean()


def mse(sr: Tensor, hr: Tensor) -> Tensor:
    """Return the mean squared difference."""
    return (full_precision(sr) - full_precision(hr)).square().mean()


def downscale_consistency(sr: Tensor, lr: Tensor, scale: int) -> Tensor:
    """Return the mean absolute difference between lr and sr averaged over scale x scale pixels.

    The output must show what the input, without noise, shows; it needs no hr.
    """
    return (F.avg_pool2d(full_precision(sr), scale) - full_precision(lr)).abs().mean()
