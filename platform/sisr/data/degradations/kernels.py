"""Blur kernels as cameras, lenses and resampling programs have them, and their application to images.

Wang et al., "Real-ESRGAN", 2021, sections 3.1 and 3.2. https://arxiv.org/abs/2107.10833
A kernel is a float64 tensor (side, side), side odd, whose values sum to 1.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sisr.data.transfer import on_device

Profile = Literal["gaussian", "plateau", "sinc"]


@dataclass(frozen=True)
class Kernel:
    """Which kernel; `weights` makes it."""

    profile: Profile
    side: int  # px, odd
    sigma: tuple[float, float] = (1.0, 1.0)  # px, along both axes; not of a sinc
    angle: float = 0.0  # radians, from the x axis to the first of the two
    power: float = 1.0  # beta: the Gaussian's is 1; less has longer tails
    cutoff: float = math.pi  # radians per px, above which a sinc removes all
    centre: float = 0.0  # px, in x and y, from the middle

    def weights(self) -> Tensor:
        """Return the kernel."""
        if self.profile == "sinc":
            kernel = _sinc(self.side, self.cutoff)
        else:
            distance = _distance(self.side, self.sigma, self.angle, self.centre) ** self.power
            kernel = torch.exp(-0.5 * distance) if self.profile == "gaussian" else 1 / (1 + distance)
        return kernel / kernel.sum()


def _offsets(side: int, centre: float = 0.0) -> Tensor:
    if side < 1 or side % 2 == 0:
        raise ValueError(f"a kernel's side must be odd, got {side}")
    return torch.arange(side, dtype=torch.float64) - side // 2 - centre


def _distance(side: int, sigma: tuple[float, float], angle: float, centre: float) -> Tensor:
    """Return every pixel's squared distance from the centre, in standard deviations."""
    offsets = _offsets(side, centre)
    y, x = offsets[:, None], offsets[None, :]
    along, across = math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x
    return (along / sigma[0]) ** 2 + (across / sigma[1]) ** 2


def _sinc(side: int, cutoff: float) -> Tensor:
    """Return the ideal circular low-pass filter, which makes ringing and overshoot, cut to side x side.

    Wang et al., 2021, equation 6: cutoff J1(cutoff r) / (2 pi r), and its limit in the middle.
    """
    offsets = _offsets(side)
    radius = (offsets[:, None] ** 2 + offsets[None, :] ** 2).sqrt()
    kernel = cutoff * torch.special.bessel_j1(cutoff * radius) / (2 * math.pi * radius.clamp_min(1e-12))
    kernel[side // 2, side // 2] = cutoff**2 / (4 * math.pi)
    return kernel


def filtered(images: Tensor, kernel: Tensor) -> Tensor:
    """Return images (n, c, h, w), float32, each pixel the sum of its neighbours weighted by `kernel` (side, side).

    Edges are mirrored, the edge pixel once. The kernel is not turned round; it is computed in float32.
    """
    height, width = images.shape[-2:]
    radius = kernel.shape[0] // 2
    mirrored = images.index_select(-2, _mirrored(height, radius, images.device))
    mirrored = mirrored.index_select(-1, _mirrored(width, radius, images.device))
    # A product of spectra costs the same for any kernel. What wraps round stays outside of what is kept.
    size = (_fast_length(height + 2 * radius), _fast_length(width + 2 * radius))
    weights = kernel.flip(0, 1).to(images.dtype)
    weights = weights if weights.device == images.device else on_device(weights, images.device)
    spectrum = torch.fft.rfft2(mirrored, s=size) * torch.fft.rfft2(weights, s=size)
    whole = torch.fft.irfft2(spectrum, s=size)
    return whole[..., 2 * radius : 2 * radius + height, 2 * radius : 2 * radius + width]


def _mirrored(length: int, margin: int, device: torch.device) -> Tensor:
    """Return the indices of an axis with `margin` more on both sides, mirrored as often as that needs."""
    if length == 1:
        return torch.zeros(1 + 2 * margin, dtype=torch.long, device=device)
    index = torch.arange(-margin, length + margin, device=device).abs() % (2 * length - 2)
    return torch.minimum(index, 2 * length - 2 - index)


def _fast_length(least: int) -> int:
    """Return the least length, of at least `least`, that Fourier transforms are fast for: no prime factor above 5."""
    length = least
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 1
