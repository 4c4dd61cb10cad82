"""A light super-resolution network: low-resolution features, PixelShuffle, then full-size residual blocks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sisr.data.bicubic import upscale
from sisr.nets.generator import Generator, Tiling

NUM_GROUPS = 4  # of each group normalisation


class ResBlock(nn.Module):
    """Two 3x3 convolutions with group normalisation, added to the input."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_features, num_features, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(NUM_GROUPS, num_features)
        self.conv2 = nn.Conv2d(num_features, num_features, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(NUM_GROUPS, num_features)

    def forward(self, x: Tensor) -> Tensor:
        correction = F.relu(_normalise(self.norm1, self.conv1(x)))
        return x + _normalise(self.norm2, self.conv2(correction))


def _normalise(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """Return norm(x) in x's memory layout.

    Convolutions are fastest with channels last, but PyTorch's group normalisation of a dozen channels is 10 times
    slower there than two changes of layout and itself.
    """
    last = x.is_contiguous(memory_format=torch.channels_last)
    return norm(x.contiguous()).contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


class PixelShuffleNet(Generator):
    """Sub-pixel convolution first, group-normalised residual blocks at high resolution after it.

    Shi et al., "Real-Time Single Image and Video Super-Resolution Using ... Sub-Pixel Convolution", 2016.
    https://arxiv.org/abs/1609.05158

    `num_features` are channels at low, `num_hr_features` (a multiple of `NUM_GROUPS`) at high resolution.
    `bicubic_skip` adds the bicubic upscaling of the input to the output; `zero_last` starts with a last layer of zeros.
    """

    def __init__(
        self,
        scale: int = 4,
        num_features: int = 64,
        num_hr_features: int = 12,
        num_blocks: int = 7,
        bicubic_skip: bool = True,
        zero_last: bool = True,
    ) -> None:
        super().__init__()
        # Tiled inference collects the normalisation's statistics, which are of the whole image, by itself.
        self.tiling = Tiling(scale, halo=3 + -(-(2 * num_blocks + 1) // scale))
        self.bicubic_skip = bicubic_skip
        self.entry = nn.Conv2d(3, num_features, 5, padding=2, bias=False)
        self.expand = nn.Conv2d(num_features, num_hr_features * scale**2, 3, padding=1, bias=False)
        self.blocks = nn.Sequential(*(ResBlock(num_hr_features) for _ in range(num_blocks)))
        self.last = nn.Conv2d(num_hr_features, 3, 3, padding=1)
        if zero_last:
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, lr: Tensor) -> Tensor:
        self.require_images(lr)
        scale = self.tiling.scale
        x = self.expand(F.relu(self.entry(lr)))
        sr = self.last(self.blocks(F.pixel_shuffle(x, scale)))
        return upscale(lr, scale) + sr if self.bicubic_skip else sr
