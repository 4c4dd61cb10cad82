"""What a chain of degradations consists of, as values: drawn on the CPU, applied to one image on its device.

Images are float32 (1, 3, h, w) in [0, 1], which filters may leave. `draws` are those of the image's example; `name` is
the operation's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from sisr.data import bicubic
from sisr.data.degradations import noise
from sisr.data.degradations.jpeg import jpeg
from sisr.data.degradations.kernels import Kernel, filtered
from sisr.data.draws import Draws
from sisr.data.transfer import on_device

Mode = Literal["area", "bilinear", "bicubic"]
MODES: tuple[Mode, ...] = ("area", "bilinear", "bicubic")


class Operation(Protocol):
    """One step of a chain."""

    def __call__(self, image: Tensor, draws: Draws, name: str) -> Tensor:
        """Return the degraded image."""
        ...


@dataclass(frozen=True)
class Filter:
    """Blur, or what a sharp cut-off makes: ringing."""

    kernel: Kernel

    def __call__(self, image: Tensor, draws: Draws, name: str) -> Tensor:
        return filtered(image, self.kernel.weights())


@dataclass(frozen=True)
class Resize:
    """Resampling without antialiasing, as OpenCV and torch do it."""

    height: int  # px, after it
    width: int
    mode: Mode

    def __call__(self, image: Tensor, draws: Draws, name: str) -> Tensor:
        return functional.interpolate(image, size=(self.height, self.width), mode=self.mode)


@dataclass(frozen=True)
class Downscale:
    """MATLAB's bicubic, which blurs before it leaves out pixels."""

    scale: int

    def __call__(self, image: Tensor, draws: Draws, name: str) -> Tensor:
        return bicubic.downscale(image, self.scale)


@dataclass(frozen=True)
class Subsample:
    """Every `scale`-th pixel of each row and column, beginning with the first."""

    scale: int

    def __call__(self, image: Tensor, draws: Draws, name: str) -> Tensor:
        return image[..., :: self.scale, :: self.scale]


@dataclass(frozen=True)
class Clamp:
    """Brings all back to [0, 1]."""

    def __call__(self, image: Tensor, draws: Draws, name: str) -> Tensor:
        return image.clamp(0, 1)


@dataclass(frozen=True)
class GaussianNoise:
    """The same everywhere, whatever the brightness."""

    sigma: float  # grey levels of 255
    grey: bool = False
    mixing: tuple[tuple[float, ...], ...] | None = None  # (3, 3), from independent noise to that of R, G and B

    def __call__(self, image: Tensor, draws: Draws, name: str) -> Tensor:
        normal = draws.normal(name, 1 if self.grey else 3, *image.shape[-2:])
        if self.mixing:
            mixing = on_device(torch.tensor(self.mixing, dtype=normal.dtype), image.device)
            normal = (mixing @ normal.flatten(2)).view_as(normal)
        return noise.add_gaussian(image, normal, self.sigma)


@dataclass(frozen=True)
class PoissonNoise:
    """As of counted photons: more where it is bright."""

    strength: float
    grey: bool = False

    def __call__(self, image: Tensor, draws: Draws, name: str) -> Tensor:
        uniform = draws.uniform(name, 1 if self.grey else 3, *image.shape[-2:])
        return noise.add_poisson(image, uniform, self.strength)


@dataclass(frozen=True)
class Jpeg:
    """A JPEG file, written and read."""

    quality: int

    def __call__(self, image: Tensor, draws: Draws, name: str) -> Tensor:
        return jpeg(image, [self.quality])


def run(chains: Sequence[Sequence[Operation]], images: Tensor, draws: Draws) -> Tensor:
    """Return lr, clamped and rounded to 8 bits, of images (n, 3, h, w) of any type, each by its own chain.

    An image never meets the others of its batch: its lr is the same bit for bit however a batch is divided.
    """
    found = []
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):  # 8 bits of mantissa are too few
        for i, (image, chain) in enumerate(zip(images.float().contiguous().split(1), chains, strict=True)):
            own = replace(draws, first=draws.first + i, count=1, device=images.device)
            for number, operation in enumerate(chain):
                image = operation(image, own, f"degradation/{number}")
            found.append(image.clamp(0, 1).mul_(255).round_().div_(255))
        return torch.cat(found).to(images)
