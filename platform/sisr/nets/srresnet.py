"""SRResNet without batch normalisation; module names are the community's, so that published weights load."""

import torch.nn.functional as F
from torch import Tensor, nn

from sisr.nets.generator import Generator, Tiling, small_kaiming

SLOPE = 0.1  # of every leaky ReLU below 0


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions added to the input."""

    def __init__(self, num_feat: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv2 = nn.Conv2d(num_feat, num_feat, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))


class MSRResNet(Generator):
    """Residual blocks at low resolution, sub-pixel convolutions up, added to the bilinear upscaling of the input.

    Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network", 2017.
    https://arxiv.org/abs/1609.04802
    The "M" is for modified: no batch normalisation, which EDSR found to cost quality; leaky ReLUs; the skip is the
    input's.
    The scale is 2, 3 or 4; 4 is made of two doublings. Weights start as Kaiming normals times `weight_scale`, biases
    at 0.
    """

    def __init__(self, num_feat: int = 64, num_block: int = 16, scale: int = 4, weight_scale: float = 0.1) -> None:
        super().__init__()
        if scale not in (2, 3, 4):
            raise ValueError(f"MSRResNet needs scale 2, 3 or 4, got {scale}")
        self.tiling = Tiling(scale, halo=1 + 2 * num_block + 2)  # the first, the blocks, what comes after them
        self.factor = 2 if scale == 4 else scale  # of each sub-pixel convolution
        self.conv_first = nn.Conv2d(3, num_feat, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(num_feat) for _ in range(num_block)))
        self.upconv1 = nn.Conv2d(num_feat, num_feat * self.factor**2, 3, padding=1)
        self.upconv2 = nn.Conv2d(num_feat, num_feat * self.factor**2, 3, padding=1) if scale == 4 else None
        self.conv_hr = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv_last = nn.Conv2d(num_feat, 3, 3, padding=1)
        small_kaiming(self, weight_scale)

    def forward(self, lr: Tensor) -> Tensor:
        self.require_images(lr)
        x = self.body(F.leaky_relu(self.conv_first(lr), SLOPE))
        x = F.leaky_relu(F.pixel_shuffle(self.upconv1(x), self.factor), SLOPE)
        if self.upconv2 is not None:
            x = F.leaky_relu(F.pixel_shuffle(self.upconv2(x), self.factor), SLOPE)
        x = self.conv_last(F.leaky_relu(self.conv_hr(x), SLOPE))
        return x + F.interpolate(lr, scale_factor=self.tiling.scale, mode="bilinear")
