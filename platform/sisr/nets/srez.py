"""srez: a DCGAN whose generator starts from a 16x16 image, with pre-activation residual blocks.

Batch normalisation has a shift but no scale; weights start as truncated normals whose variance depends on a factor
that is small inside residual blocks, so that these start close to the identity.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from sisr.nets.batch_norm import BatchNorm
from sisr.nets.generator import Generator, Tiling
from sisr.nets.numeric import full_precision


def _conv(inputs: int, outputs: int, kernel: int, factor: float, stride: int = 1) -> nn.Conv2d:
    """Return a convolution with zero padding and weights of variance factor / (sqrt(inputs outputs) kernel^2)."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2)
    std = math.sqrt(factor / (math.sqrt(inputs * outputs) * kernel**2))
    nn.init.trunc_normal_(conv.weight, std=std, a=-2 * std, b=2 * std)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


class ResBlock(nn.Module):
    """A projection where the width changes, then twice (norm, ReLU, 3x3 convolution), added to the projection."""

    def __init__(self, inputs: int, outputs: int, batch_statistics: bool) -> None:
        super().__init__()
        self.projection = nn.Identity() if inputs == outputs else _conv(inputs, outputs, 1, factor=1.0)
        self.norm1 = BatchNorm(outputs, batch_statistics=batch_statistics)
        self.conv1 = _conv(outputs, outputs, 3, factor=1e-3)
        self.norm2 = BatchNorm(outputs, batch_statistics=batch_statistics)
        self.conv2 = _conv(outputs, outputs, 3, factor=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        bypass = self.projection(x)
        x = self.conv1(F.relu(self.norm1(bypass)))
        return bypass + self.conv2(F.relu(self.norm2(x)))


class Upsample(nn.Module):
    """Nearest neighbours, twice the size, then norm, ReLU and a 3x3 convolution."""

    def __init__(self, features: int, batch_statistics: bool) -> None:
        super().__init__()
        self.norm = BatchNorm(features, batch_statistics=batch_statistics)
        self.conv = _conv(features, features, 3, factor=1.0)

    def forward(self, x: Tensor) -> Tensor:
        # Normalising first gives the same result: doubling pixels changes neither mean nor variance.
        return self.conv(F.interpolate(F.relu(self.norm(x)), scale_factor=2, mode="nearest"))


class SrezGenerator(Generator):
    """Residual blocks and doublings, then three plain layers and a sigmoid: sr in (0, 1).

    `features` are the widths of its stages, each but the last of two residual blocks and a doubling: three make 4x.
    `batch_statistics` normalises by the batch's own statistics in evaluation, too, as the original did.
    """

    def __init__(self, features: tuple[int, ...] = (256, 128, 96), batch_statistics: bool = False) -> None:
        super().__init__()
        *stages, last = features
        self.tiling = Tiling(2 ** len(stages), None if batch_statistics else _halo(len(stages)))
        layers: list[nn.Module] = []
        inputs = 3
        for outputs in stages:
            layers += [ResBlock(inputs, outputs, batch_statistics), ResBlock(outputs, outputs, batch_statistics)]
            layers += [Upsample(outputs, batch_statistics)]
            inputs = outputs
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(
            _conv(inputs, last, 3, factor=2.0),
            nn.ReLU(),
            _conv(last, last, 1, factor=2.0),
            nn.ReLU(),
            _conv(last, 3, 1, factor=1.0),
        )

    def forward(self, lr: Tensor) -> Tensor:
        self.require_images(lr)
        return full_precision(self.head(self.body(lr))).sigmoid()


def _halo(stages: int) -> int:
    """Return the context of an output pixel in lr px: from the output back, one 3x3 head, then stage by stage."""
    halo = 1
    for _ in range(stages):
        halo = -(-(halo + 1) // 2) + 4  # the doubling's convolution; half the size; four residual convolutions
    return halo


class SrezDiscriminator(nn.Module):
    """Strided convolutions with norm and ReLU, then the spatial mean of a logit map.

    `num_features` is the width of the first layer; the next three double it.
    """

    def __init__(self, num_features: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for outputs in (num_features, 2 * num_features, 4 * num_features, 8 * num_features):
            layers += [_conv(inputs, outputs, 3, factor=2.0, stride=2), BatchNorm(outputs), nn.ReLU()]
            inputs = outputs
        for kernel in (3, 1):
            layers += [_conv(inputs, inputs, kernel, factor=2.0), BatchNorm(inputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers, _conv(inputs, 1, 1, factor=2.0))

    def forward(self, images: Tensor) -> Tensor:
        """Return one logit per image (n,): positive means real. `images` are (n, 3, h, w) in [0, 1]."""
        return self.layers(2.0 * images - 1.0).mean(dim=(1, 2, 3))
