"""How lr is made from hr, in batch, on the training device.

Every function maps images (n, c, h, w) in [0, 1] to images of the same type and device, and is differentiable.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional


def area(hr: Tensor, scale: int) -> Tensor:
    """Return lr whose pixels are the means of `scale` x `scale` blocks of hr.

    Raises:
        ValueError: h or w is not a multiple of `scale`.
    """
    height, width = hr.shape[-2:]
    if height % scale or width % scale:
        raise ValueError(f"area by {scale} wants sides that are multiples of it, got {height}x{width}")
    return functional.avg_pool2d(hr, scale)


def gaussian_blur(hr: Tensor, sigma: Tensor, sigma_max: float) -> Tensor:
    """Return the images blurred, each by a Gaussian of its own width, edges mirrored (the edge pixel once).

    Args:
        hr: (n, c, h, w), sides larger than 3 * sigma_max.
        sigma: (n,), px, above 0 and at most `sigma_max`.
        sigma_max: px; fixes the kernel's length, 2 * ceil(3 * sigma_max) + 1, so that shapes never depend on draws.
    """
    n, c, height, width = hr.shape
    radius = math.ceil(3 * sigma_max)
    offsets = torch.arange(-radius, radius + 1, device=hr.device, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / sigma.to(hr.device).double()[:, None]) ** 2)
    kernel = (weights / weights.sum(dim=1, keepdim=True)).to(hr.dtype).repeat_interleave(c, dim=0)
    # Images become channels of one image, so that each may have a kernel of its own.
    x = functional.pad(hr.reshape(1, n * c, height, width), [radius] * 4, mode="reflect")
    with torch.autocast(hr.device.type, enabled=False):  # 8 bits of mantissa are too few for an image
        x = functional.conv2d(x, kernel[:, None, :, None], groups=n * c)
        x = functional.conv2d(x, kernel[:, None, None, :], groups=n * c)
    return x.reshape(n, c, height, width)


def quantise(x: Tensor) -> Tensor:
    """Return x clamped to [0, 1] and rounded to 8 bits, as a saved file holds it; gradients pass as if it were not."""
    rounded = x.detach().clamp(0, 1).mul(255).round().div(255)
    return x + (rounded - x.detach()) if x.requires_grad else rounded
