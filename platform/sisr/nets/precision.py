"""Losses and images are computed in float32 at least, also where networks run in half precision."""

import torch
from torch import Tensor


def full_precision(x: Tensor) -> Tensor:
    """Return x as float32, or as float64 if it is: half precision would hold images to 1/256 only."""
    return x if x.dtype == torch.float64 else x.float()
