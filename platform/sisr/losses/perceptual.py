"""Distances between images as VGG-19 sees them.

Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015.
https://arxiv.org/abs/1409.1556
Johnson et al., "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", 2016.
https://arxiv.org/abs/1603.08155
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from pickle import UnpicklingError
from urllib.error import URLError

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sisr.errors import ConfigError
from sisr.nets.precision import full_precision

URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"  # torchvision's VGG19_Weights.IMAGENET1K_V1
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's RGB in [0, 1]
DEPTHS, WIDTHS = (2, 2, 4, 4, 4), (64, 128, 256, 512, 512)  # convolutions and channels of the five blocks
LAYERS = [f"{block}_{i}" for block, depth in enumerate(DEPTHS, 1) for i in range(1, depth + 1)]  # "1_1" to "5_4"

Convolution = tuple[Tensor, Tensor]  # weight (out, in, k, k), bias (out,)


class Vgg19(nn.Module):
    """The features of VGG-19 at chosen layers, up to the deepest of them; nothing in it is trained or saved.

    Args:
        layers: Names such as `relu5_4` or, before its ReLU, `conv5_4`. features[:36] of torchvision ends at `relu5_4`.
        weights: `imagenet` (torchvision's file, downloaded once), `random` (of a fixed seed), or a file: torchvision's
            or one of its `features` alone; a first 1x1 convolution in it stands for its own colour transformation, with
            reflected edges.
        normalise: Bring RGB in [0, 1] to ImageNet's mean and deviation first, as the weights expect. Without effect,
            and refused, where the file has its own colour transformation.

    Raises:
        ConfigError: A layer is unknown or deeper than the file, or there are no weights; the message names the file
            to put where.
    """

    weight0: Tensor
    bias0: Tensor

    def __init__(self, layers: Sequence[str], weights: str = "imagenet", normalise: bool = True) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.depth = 1 + max(map(_number, layers), default=-1)
        convolutions = _convolutions(weights, self.depth)
        own = convolutions[0][0].shape[-1] == 1
        self.edges = "reflect" if own else "constant"
        colour = convolutions.pop(0) if own else _to_imagenet() if normalise else _identity()
        if len(convolutions) < self.depth:
            raise ConfigError(f"{weights} ends at conv{LAYERS[len(convolutions) - 1]}; no layer after it: {layers}")
        for i, (weight, bias) in enumerate([colour, *convolutions[: self.depth]]):
            # Buffers that no checkpoint holds: the weights never change.
            self.register_buffer(f"weight{i}", weight.clone(), persistent=False)
            self.register_buffer(f"bias{i}", bias.clone(), persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features (n, c, h', w') of each chosen layer. `images` are (n, 3, h, w) RGB in [0, 1]."""
        with torch.autocast(images.device.type, enabled=False):  # 8 bits of mantissa are too few for an image
            x = F.conv2d(images.to(self.weight0.dtype), self.weight0, self.bias0)
        found: dict[str, Tensor] = {}
        for i, layer in enumerate(LAYERS[: self.depth]):
            if layer.endswith("_1") and i:
                x = F.max_pool2d(x, 2)
            weight, bias = getattr(self, f"weight{i + 1}"), getattr(self, f"bias{i + 1}")
            x = F.conv2d(F.pad(x, [1] * 4, mode=self.edges), weight, bias)
            found[f"conv{layer}"] = x
            x = found[f"relu{layer}"] = F.relu(x)
        return [found[layer] for layer in self.layers]


def feature_mse(sr_features: Sequence[Tensor], hr_features: Sequence[Tensor]) -> Tensor:
    """Return the mean squared difference of features, summed over layers. `hr_features` are taken as constants."""
    terms = [
        (full_precision(sr) - full_precision(hr).detach()).square().mean()
        for sr, hr in zip(sr_features, hr_features, strict=True)
    ]
    return torch.stack(terms).sum()


def feature_l1(sr_features: Sequence[Tensor], hr_features: Sequence[Tensor]) -> Tensor:
    """Return the mean absolute difference of features, summed over layers. `hr_features` are taken as constants."""
    terms = [
        (full_precision(sr) - full_precision(hr).detach()).abs().mean()
        for sr, hr in zip(sr_features, hr_features, strict=True)
    ]
    return torch.stack(terms).sum()


def _number(layer: str) -> int:
    """Return how many convolutions come before a layer's own."""
    name = layer.removeprefix("relu").removeprefix("conv")
    if name == layer or name not in LAYERS:
        raise ConfigError(f"VGG-19 has no layer '{layer}'; it has conv1_1, relu1_1, conv1_2 and so on to relu5_4")
    return LAYERS.index(name)


def _identity() -> Convolution:
    return torch.eye(3)[:, :, None, None], torch.zeros(3)


def _to_imagenet() -> Convolution:
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    return torch.diag(1 / std)[:, :, None, None], -mean / std


def _convolutions(weights: str, depth: int) -> list[Convolution]:
    if weights == "random":
        return _random(depth)
    state = _download() if weights == "imagenet" else _read(Path(weights))
    numbers = sorted({int(m[1]) for m in (re.fullmatch(r"(?:features\.)?(\d+)\.weight", key) for key in state) if m})
    prefix = "features." if any(key.startswith("features.") for key in state) else ""
    found = [(state[f"{prefix}{n}.weight"], state[f"{prefix}{n}.bias"]) for n in numbers]
    if not found or found[-1][0].ndim != 4:
        raise ConfigError(f"{weights} does not hold the convolutions of VGG-19")
    return found


def _random(depth: int) -> list[Convolution]:
    random = torch.Generator().manual_seed(0)
    widths = [3, *(width for width, count in zip(WIDTHS, DEPTHS, strict=True) for _ in range(count))]
    shapes = [(outputs, inputs, 3, 3) for inputs, outputs in pairwise(widths[: depth + 1])]
    return [(torch.randn(s, generator=random) * (2 / (9 * s[1])) ** 0.5, torch.zeros(s[0])) for s in shapes]


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError:
        raise ConfigError(f"no weights '{path}': give imagenet, random, none or an existing file") from None
    except (OSError, RuntimeError, ValueError, TypeError, EOFError, UnpicklingError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ConfigError(f"{path} can't be read as weights: {reason}") from error


def cached_weights() -> Path:
    """Return where torchvision keeps the ImageNet weights once they are downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(URL).name


def _download() -> dict[str, Tensor]:
    path = cached_weights()
    load = torch.hub.load_state_dict_from_url
    try:
        return load(URL, str(path.parent), map_location="cpu", check_hash=True, weights_only=True)
    except (URLError, OSError) as error:
        raise ConfigError(
            f"the ImageNet weights of VGG-19 are not at {path} and can't be downloaded ({error}): "
            f"put {URL} there, or name a weights file, or set perceptual=none"
        ) from error
