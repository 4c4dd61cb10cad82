"""ESRGAN's generator; module names are the published ones, so that weights interchange."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sisr.nets.generator import Generator, Tiling, small_kaiming

SLOPE = 0.2  # of every leaky ReLU below 0
RESIDUAL_SCALE = 0.2  # of what a block adds to its input


class ResidualDenseBlock(nn.Module):
    """Five 3x3 convolutions, each of which sees the input and all before it; a fifth of the result is added."""

    def __init__(self, num_feat: int = 64, num_grow_ch: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_feat, num_grow_ch, 3, padding=1)
        self.conv2 = nn.Conv2d(num_feat + num_grow_ch, num_grow_ch, 3, padding=1)
        self.conv3 = nn.Conv2d(num_feat + 2 * num_grow_ch, num_grow_ch, 3, padding=1)
        self.conv4 = nn.Conv2d(num_feat + 3 * num_grow_ch, num_grow_ch, 3, padding=1)
        self.conv5 = nn.Conv2d(num_feat + 4 * num_grow_ch, num_feat, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        seen = x
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen = torch.cat([seen, F.leaky_relu(conv(seen), SLOPE)], dim=1)
        return x + RESIDUAL_SCALE * self.conv5(seen)


class RRDB(nn.Module):
    """Residual in residual: three dense blocks, a fifth of whose result is added to the input."""

    def __init__(self, num_feat: int = 64, num_grow_ch: int = 32) -> None:
        super().__init__()
        self.rdb1 = ResidualDenseBlock(num_feat, num_grow_ch)
        self.rdb2 = ResidualDenseBlock(num_feat, num_grow_ch)
        self.rdb3 = ResidualDenseBlock(num_feat, num_grow_ch)

    def forward(self, x: Tensor) -> Tensor:
        return x + RESIDUAL_SCALE * self.rdb3(self.rdb2(self.rdb1(x)))


class RRDBNet(Generator):
    """Dense residual blocks at low resolution, then two doublings by nearest neighbours: 4x.

    Wang et al., "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks", 2018.
    https://arxiv.org/abs/1809.00219

    `num_grow_ch` channels are added by each of the first four convolutions of a dense block. Weights start as Kaiming
    normals times `weight_scale`, biases at 0.
    """

    def __init__(
        self, num_feat: int = 64, num_block: int = 23, num_grow_ch: int = 32, weight_scale: float = 0.1
    ) -> None:
        super().__init__()
        # The first convolution, the blocks, the one after them; the four while doubling look 2 lr px together.
        self.tiling = Tiling(scale=4, halo=1 + 15 * num_block + 1 + 2)
        self.conv_first = nn.Conv2d(3, num_feat, 3, padding=1)
        self.body = nn.Sequential(*(RRDB(num_feat, num_grow_ch) for _ in range(num_block)))
        self.conv_body = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv_up1 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv_up2 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv_hr = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv_last = nn.Conv2d(num_feat, 3, 3, padding=1)
        small_kaiming(self, weight_scale)

    def forward(self, lr: Tensor) -> Tensor:
        self.require_images(lr)
        first = self.conv_first(lr)
        x = first + self.conv_body(self.body(first))
        x = F.leaky_relu(self.conv_up1(F.interpolate(x, scale_factor=2, mode="nearest")), SLOPE)
        x = F.leaky_relu(self.conv_up2(F.interpolate(x, scale_factor=2, mode="nearest")), SLOPE)
        return self.conv_last(F.leaky_relu(self.conv_hr(x), SLOPE))
