"""Real-ESRGAN's small generator; module names are the published ones, so that weights interchange."""

import torch.nn.functional as F
from torch import Tensor, nn

from sisr.nets.generator import Generator, Tiling


class SRVGGNetCompact(Generator):
    """Plain convolutions at low resolution, one PixelShuffle, added to the input enlarged by repetition.

    Wang et al., Real-ESRGAN's models `realesr-general-x4v3` (32 convolutions) and `realesr-animevideov3` (16).

    `num_conv` counts the convolutions between the first and the last; `upscale` is sr side / lr side.
    """

    def __init__(self, num_feat: int = 64, num_conv: int = 16, upscale: int = 4) -> None:
        super().__init__()
        self.tiling = Tiling(upscale, halo=num_conv + 2)
        layers: list[nn.Module] = []
        for inputs in (3, *[num_feat] * num_conv):
            layers += [nn.Conv2d(inputs, num_feat, 3, padding=1), nn.PReLU(num_feat)]
        self.body = nn.Sequential(*layers, nn.Conv2d(num_feat, 3 * upscale**2, 3, padding=1))

    def forward(self, lr: Tensor) -> Tensor:
        self.require_images(lr)
        scale = self.tiling.scale
        return F.pixel_shuffle(self.body(lr), scale) + F.interpolate(lr, scale_factor=scale, mode="nearest")
