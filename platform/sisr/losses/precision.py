"""Losses are computed in float32 at least, also where networks run in half precision."""

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """Return x as float32, or as float64 if it is."""
    return x if x.dtype == torch.float64 else x.float()
