"""Distances between images as VGG-19 sees them.

Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015.
https://arxiv.org/abs/1409.1556
Johnson et al., "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", 2016.
https://arxiv.org/abs/1603.08155
"""

import re
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from urllib.error import URLError

import torch
from torch import Tensor, nn

from sisr.errors import ConfigError
from sisr.nets.numeric import full_precision

URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"  # torchvision's VGG19_Weights.IMAGENET1K_V1
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's RGB in [0, 1]
# What torchvision's `vgg19().features` consist of, in order: conv1_1, relu1_1, ... pool1, conv2_1 ...
LAYERS = [
    name
    for block, depth in enumerate((2, 2, 4, 4, 4), 1)
    for name in [*(f"{kind}{block}_{i}" for i in range(1, depth + 1) for kind in ("conv", "relu")), f"pool{block}"]
]

Convolution = tuple[Tensor, Tensor]  # weight (out, in, k, k), bias (out,)


class Vgg19(nn.Module):
    """The features of VGG-19 at chosen layers, up to the deepest of them; nothing in it is trained or saved.

    Args:
        layers: Names such as `relu5_4` or, before its ReLU, `conv5_4`. features[:36] of torchvision ends at `relu5_4`.
        weights: `imagenet` (torchvision's file, downloaded once), `random` (of a fixed seed), or a file: torchvision's
            or one of its `features` alone; a first 1x1 convolution in it stands for its own colour transformation, with
            reflected edges, instead of `normalise`.
        normalise: Bring RGB in [0, 1] to ImageNet's mean and deviation first, as the weights expect.

    Raises:
        ConfigError: A layer is unknown or deeper than the file, or there are no weights; the message names the file
            to put where.
    """

    def __init__(self, layers: Sequence[str], weights: str = "imagenet", normalise: bool = True) -> None:
        super().__init__()
        self.layers = tuple(layers)
        if unknown := [layer for layer in layers if layer not in LAYERS]:
            known = "conv1_1, relu1_1, conv1_2 and so on to relu5_4"
            raise ConfigError(f"VGG-19 has no layer '{unknown[0]}'; it has {known}")
        self.names = LAYERS[: 1 + max(map(LAYERS.index, layers))]
        needed = [name for name in self.names if name.startswith("conv")]
        self.colour, self.features = _empty_layers(len(self.names))
        empty = [layer for layer in self.features if isinstance(layer, nn.Conv2d)]
        convolutions = _convolutions(weights, [layer.weight.shape for layer in empty])
        own = convolutions[0][0].shape[-1] == 1
        _freeze(self.colour, convolutions.pop(0) if own else _colours(normalise))
        if len(convolutions) < len(needed):
            last = needed[len(convolutions) - 1]
            raise ConfigError(
                f"{weights} ends at {last}, and this recipe wants {', '.join(layers)}: another file, or "
                f"--set perceptual_layers=[{last}]"
            )
        for layer, values in zip(empty, convolutions, strict=False):  # a file may go deeper
            _freeze(layer, values)
            layer.padding_mode = "reflect" if own else "zeros"

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features (n, c, h', w') of each chosen layer. `images` are (n, 3, h, w) RGB in [0, 1]."""
        with torch.autocast(images.device.type, enabled=False):  # 8 bits of mantissa are too few for an image
            x = self.colour(images.to(self.colour.weight.dtype))
        found: dict[str, Tensor] = {}
        for name, layer in zip(self.names, self.features, strict=True):
            x = layer(x)
            if name in self.layers:
                found[name] = x
        return [found[name] for name in self.layers]

    @torch.no_grad()
    def constant(self, images: Tensor) -> list[Tensor]:
        """Return the same features without a graph: those of images that nothing is learned from."""
        return self(images)


def _empty_layers(count: int) -> tuple[nn.Conv2d, nn.Sequential]:
    """Return a convolution of colours and the first `count` layers of VGG-19's features, all without values.

    Nothing is allocated, and no random number drawn: a training run's own must not notice.
    """
    from torchvision.models import vgg19  # type: ignore[import-untyped]  # it takes a second to import

    with torch.device("meta"):
        colour, layers = nn.Conv2d(3, 3, 1), vgg19(weights=None).features[:count]
    for layer in layers:
        if isinstance(layer, nn.ReLU):
            layer.inplace = False  # else it would change the features before it, which may have been asked for
    return colour, layers


def _freeze(layer: nn.Conv2d, values: Convolution) -> None:
    """Give a convolution values that are never trained, and held by no checkpoint."""
    for name, value in zip(("weight", "bias"), values, strict=True):
        delattr(layer, name)
        layer.register_buffer(name, value.clone(), persistent=False)


def feature_mse(sr_features: Sequence[Tensor], hr_features: Sequence[Tensor]) -> Tensor:
    """Return the mean squared difference of features, summed over layers. `hr_features` are taken as constants."""
    return torch.stack([d.square().mean() for d in _differences(sr_features, hr_features)]).sum()


def feature_l1(
    sr_features: Sequence[Tensor], hr_features: Sequence[Tensor], weights: Sequence[float] | None = None
) -> Tensor:
    """Return the mean absolute difference of features, summed over layers. `hr_features` are taken as constants.

    `weights` are the layers' in this sum; None: 1 each.
    """
    means = [d.abs().mean() for d in _differences(sr_features, hr_features)]
    return torch.stack([w * mean for w, mean in zip(weights or [1.0] * len(means), means, strict=True)]).sum()


def _differences(sr_features: Sequence[Tensor], hr_features: Sequence[Tensor]) -> list[Tensor]:
    pairs = zip(sr_features, hr_features, strict=True)
    return [full_precision(sr) - full_precision(hr).detach() for sr, hr in pairs]


def _colours(normalise: bool) -> Convolution:
    """Return the convolution that brings RGB in [0, 1] to ImageNet's mean and deviation, or leaves it as it is."""
    mean, std = (torch.tensor(MEAN), torch.tensor(STD)) if normalise else (torch.zeros(3), torch.ones(3))
    return torch.diag(1 / std)[:, :, None, None], -mean / std


def _convolutions(weights: str, shapes: Sequence[torch.Size]) -> list[Convolution]:
    """Return the convolutions in a file, in order; or random ones of these shapes."""
    if weights == "random":
        random = torch.Generator().manual_seed(0)
        return [(torch.randn(s, generator=random) * (2 / (9 * s[1])) ** 0.5, torch.zeros(s[0])) for s in shapes]
    state = _download() if weights == "imagenet" else _read(Path(weights))
    numbers = sorted({int(m[1]) for m in (re.fullmatch(r"(?:features\.)?(\d+)\.weight", key) for key in state) if m})
    prefix = "features." if any(key.startswith("features.") for key in state) else ""
    found = [(state[f"{prefix}{n}.weight"], state[f"{prefix}{n}.bias"]) for n in numbers]
    if not found or found[-1][0].ndim != 4:
        raise ConfigError(f"{weights} does not hold the convolutions of VGG-19")
    return found


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
    path, load = cached_weights(), torch.hub.load_state_dict_from_url
    try:
        return load(URL, str(path.parent), map_location="cpu", check_hash=True, weights_only=True)
    except (URLError, OSError) as error:
        raise ConfigError(
            f"the ImageNet weights of VGG-19 are not at {path} and can't be downloaded ({error}): "
            f"put {URL} there, or name a weights file, or set perceptual=none"
        ) from error
