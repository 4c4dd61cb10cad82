"""ESRGAN's discriminator; module names are the published ones, so that weights interchange."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from sisr.nets.batch_norm import BatchNorm

SLOPE = 0.2  # of every leaky ReLU below 0
LAST_SIDE = 4  # px, of the feature map that the fully connected layers see


class VGGStyleDiscriminator(nn.Module):
    """Pairs of a 3x3 and a strided 4x4 convolution with batch normalisation, then two fully connected layers.

    Wang et al., "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks", 2018.
    https://arxiv.org/abs/1809.00219
    Published for images of 128 and 256 pixels; smaller ones get fewer pairs.

    Args:
        num_feat: Channels of the first pair; the next three pairs double them.
        input_size: px, side of the images; a power of two, at least 8.
    """

    def __init__(self, num_feat: int = 64, input_size: int = 128) -> None:
        super().__init__()
        if input_size < 2 * LAST_SIDE or input_size & (input_size - 1):
            raise ValueError(
                f"VGGStyleDiscriminator needs a power of two of at least 8 as input_size, got {input_size}"
            )
        self.input_size = input_size
        self.num_pairs = (input_size // LAST_SIDE).bit_length() - 1
        inputs = 3
        for i in range(self.num_pairs):
            outputs = num_feat * 2 ** min(i, 3)
            self.add_module(f"conv{i}_0", nn.Conv2d(inputs, outputs, 3, padding=1, bias=i == 0))
            if i:
                self.add_module(f"bn{i}_0", BatchNorm(outputs, scale=True, eps=1e-5))
            self.add_module(f"conv{i}_1", nn.Conv2d(outputs, outputs, 4, stride=2, padding=1, bias=False))
            self.add_module(f"bn{i}_1", BatchNorm(outputs, scale=True, eps=1e-5))
            inputs = outputs
        self.linear1 = nn.Linear(inputs * LAST_SIDE**2, 100)
        self.linear2 = nn.Linear(100, 1)
        self.register_load_state_dict_pre_hook(_drop_batch_counts)

    def forward(self, images: Tensor) -> Tensor:
        """Return one logit per image (n,): positive means real. `images` are (n, 3, h, w) in [0, 1]."""
        side = self.input_size
        if images.shape[2:] != (side, side):
            raise ValueError(f"discriminator wants images of {side}x{side} pixels, got {tuple(images.shape[2:])}")
        x = images
        for i in range(self.num_pairs):
            x = self._modules[f"conv{i}_0"](x)  # type: ignore[misc]
            x = F.leaky_relu(self._modules[f"bn{i}_0"](x) if i else x, SLOPE)  # type: ignore[misc]
            x = self._modules[f"bn{i}_1"](self._modules[f"conv{i}_1"](x))  # type: ignore[misc]
            x = F.leaky_relu(x, SLOPE)
        x = F.leaky_relu(self.linear1(x.flatten(1)), SLOPE)
        return self.linear2(x).squeeze(1)


def _drop_batch_counts(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """PyTorch's batch normalisation also saves how many batches it saw, which nothing here needs."""
    for key in [key for key in state if key.startswith(prefix) and key.endswith(".num_batches_tracked")]:
        del state[key]
