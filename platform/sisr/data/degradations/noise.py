"""Noise of sensors: Gaussian, of one strength, and Poisson, whose strength follows brightness; grey or coloured."""

from functools import lru_cache

import torch
from torch import Tensor

from sisr.data.transfer import on_device

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue
BINS = 4096  # equally likely parts of a Poisson distribution, each of which stands for its middle
LEVELS = 256  # grey levels, from 0 to white
MOST_BITS = 8  # a white pixel counts 2**8 photons at most


def add_gaussian(images: Tensor, normal: Tensor, sigma: float) -> Tensor:
    """Return images (n, 3, h, w) with noise, clamped to [0, 1].

    `normal` are standard normal numbers (n, 3, h, w), or (n, 1, h, w) for grey noise; `sigma` is in grey levels of 255.
    """
    return (images + normal * (sigma / 255)).clamp_(0, 1)


def add_poisson(images: Tensor, uniform: Tensor, strength: float) -> Tensor:
    """Return images (n, 3, h, w) with noise as if white were 2**k photons, times `strength`, clamped to [0, 1].

    As Real-ESRGAN has it: every image is rounded to 8 bits, and 2**k is the number of values that occur in it,
    rounded up to a power of two. `uniform` are numbers in [0, 1) (n, 3, h, w), or (n, 1, h, w) for grey noise, which
    is that of the image in grey. Each count is a quantile of its Poisson distribution, to 1 / 4096.
    """
    if uniform.shape[1] == 1:
        red, green, blue = images.split(1, dim=1)
        seen = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
    else:
        seen = images
    level = seen.clamp(0, 1).mul_(LEVELS - 1).round_().int()
    bits = _bits(level)
    place = (bits[:, None, None, None] * LEVELS + level) * BINS + (uniform * BINS).int()
    counts = _quantiles(images.device).take(place.long())
    noise = counts / (2.0**bits)[:, None, None, None] - level / (LEVELS - 1)
    return (images + strength * noise).clamp_(0, 1)


def _bits(level: Tensor) -> Tensor:
    """Return k (n,) for grey levels (n, c, h, w): 2**k is their number, rounded up to a power of two."""
    occurs = torch.zeros(level.shape[0], LEVELS, device=level.device)
    occurs.scatter_(1, level.flatten(1).long(), 1.0)
    return occurs.sum(dim=1).log2().ceil().int()


@lru_cache(maxsize=4)
def _quantiles(device: torch.device) -> Tensor:
    """Return counts (k, level, bin) for 2**k photons at white: of each grey level's distribution, the bins' middles."""
    middles = (torch.arange(BINS, dtype=torch.float64) + 0.5) / BINS
    found = []
    with torch.inference_mode(False):  # kept for later calls, which may be in training
        for k in range(MOST_BITS + 1):
            mean = torch.arange(LEVELS, dtype=torch.float64)[:, None] * 2**k / (LEVELS - 1)
            count = torch.arange(2**k + 10 + int(6 * 2 ** (k / 2)), dtype=torch.float64)
            logs = torch.special.xlogy(count, mean) - mean - torch.lgamma(count + 1)
            below = logs.exp().cumsum(dim=1)
            found.append(torch.searchsorted(below, middles.expand(LEVELS, BINS).contiguous()).to(torch.int16))
        return on_device(torch.stack(found), device)
