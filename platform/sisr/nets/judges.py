"""ESRGAN's discriminator, with the published names of its modules, and a critic without normalisation."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from sisr.nets.batch_norm import BatchNorm

SLOPE = 0.2  # of every leaky ReLU below 0
LAST_SIDE = 4  # px, of the feature map that the discriminator's fully connected layers see
POOLED_SIDE = 6  # px, of the feature map that the critic's see, whatever the size of the image


class VGGStyleDiscriminator(nn.Module):
    """Pairs of a 3x3 and a strided 4x4 convolution with batch normalisation, then two fully connected layers.

    Wang et al., "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks", 2018.
    https://arxiv.org/abs/1809.00219
    Published for images of 128 and 256 pixels; smaller ones get fewer pairs.

    `num_feat` is the width of the first pair, which the next three double; `input_size` the side of the images in px.
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


class ConvCritic(nn.Module):
    """Eight 3x3 convolutions that halve the size whenever the width doubles, then two fully connected layers.

    No normalisation, as a gradient penalty of each image alone wants it. `num_features` is the width of the first two
    convolutions, which each further pair doubles; `num_hidden` that between the fully connected layers.
    """

    def __init__(self, num_features: int = 64, num_hidden: int = 1024) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for outputs in (num_features, 2 * num_features, 4 * num_features, 8 * num_features):
            for stride in (1, 2):
                layers += [nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1), nn.LeakyReLU(SLOPE)]
                inputs = outputs
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(POOLED_SIDE), nn.Flatten())
        hidden = nn.Linear(inputs * POOLED_SIDE**2, num_hidden)
        self.head = nn.Sequential(hidden, nn.LeakyReLU(SLOPE), nn.Linear(num_hidden, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return one unbounded score per image (n,). `images` are (n, 3, h, w) in [0, 1]."""
        return self.head(self.features(images)).squeeze(1)
