"""What generators do alike with the images that come in and go out."""

import torch
from torch import Tensor


def require_images(lr: Tensor, size_multiple: int = 1, smallest: int = 1) -> None:
    """Raise ValueError unless `lr` is a batch of RGB images of a size that the network accepts.

    Args:
        lr: Expected (n, 3, h, w).
        size_multiple: px; h and w must be multiples of it.
        smallest: px; h and w must be at least this.
    """
    if lr.ndim != 4 or lr.shape[1] != 3:
        raise ValueError(f"generator wants RGB images (n, 3, h, w), got {tuple(lr.shape)}")
    height, width = lr.shape[2:]
    if height % size_multiple or width % size_multiple:
        raise ValueError(f"generator wants height and width to be multiples of {size_multiple}, got {height}x{width}")
    if min(height, width) < smallest:
        raise ValueError(f"generator wants at least {smallest}x{smallest} pixels, got {height}x{width}")


def full_precision(x: Tensor) -> Tensor:
    """Return x as float32, or as float64 if it is: half precision would hold images to 1/256 only."""
    return x if x.dtype == torch.float64 else x.float()
