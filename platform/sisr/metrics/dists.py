"""Deep image structure and texture similarity: whether textures are alike, wherever their parts lie. Less is better.

Ding et al., "Image Quality Assessment: Unifying Structure and Texture Similarity", 2020.
https://arxiv.org/abs/2004.07728

Means (texture, equation 7) and covariances (structure, equation 8) of VGG-16's features, whose maxima are replaced by
L2 pooling (equation 5), and of the image itself, weighted by alpha and beta, which the authors have learned. Of whole
images, which are not made smaller first.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor
from torch.nn import functional

from sisr.errors import ConfigError
from sisr.losses.perceptual import MEAN, STD
from sisr.metrics.catalogue import METRICS
from sisr.metrics.perceptual import MeanOfImages

STAGES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))  # torchvision's numbers of the convolutions
CHANNELS = (3, 64, 128, 256, 512, 512)  # of the image and behind each stage
STABLE = 1e-6  # c1 and c2

State = dict[str, Tensor]


def build(weights: Path, device: torch.device) -> MeanOfImages:
    """Return the distance by the VGG-16 in a file; alpha and beta come with the authors' package, which isn't imported.

    Raises:
        ConfigError: One of the files can't be read.
    """
    package = find_spec(METRICS["dists"].package)
    assert package
    assert package.submodule_search_locations
    learned = _read(Path(package.submodule_search_locations[0]) / "weights.pt", "DISTS's alpha and beta", device)
    network = _read(weights, f"VGG-16's weights: replace it by {METRICS['dists'].weights}", device)
    try:
        total = learned["alpha"].sum() + learned["beta"].sum()
        alpha, beta = ((learned[name] / total).split(CHANNELS, dim=1) for name in ("alpha", "beta"))
        stages = [[(network[f"features.{n}.weight"], network[f"features.{n}.bias"]) for n in s] for s in STAGES]
    except KeyError as error:
        raise ConfigError(f"{weights} does not hold {error}: replace it by {METRICS['dists'].weights}") from None

    def measure(sr: Tensor, hr: Tensor) -> float:
        ours, theirs = (_features(image.to(device, torch.float32), stages) for image in (sr, hr))
        parts = zip(ours, theirs, alpha, beta, strict=True)
        return 1 - float(sum(_similarity(*part) for part in parts))

    return MeanOfImages("dists", "dists-vgg16", 1, measure)


def _features(image: Tensor, stages: list[list[tuple[Tensor, Tensor]]]) -> Iterator[Tensor]:
    """Yield the image (1, 3, h, w) in [0, 1] and the features behind the last ReLU of each stage."""
    yield image
    mean, std = (image.new_tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    x = (image - mean) / std
    for number, stage in enumerate(stages):
        if number:
            x = _pooled(x)
        for weight, bias in stage:
            x = functional.relu(functional.conv2d(x, weight, bias, padding=1))
        yield x


def _pooled(x: Tensor) -> Tensor:
    """Return the root of the mean square below a Hann window at every second place."""
    taps = x.new_tensor([0.5, 1.0, 0.5])
    window = torch.outer(taps, taps) / taps.sum() ** 2
    channels = x.shape[1]
    squares = functional.conv2d(x**2, window.expand(channels, 1, 3, 3), stride=2, padding=1, groups=channels)
    return (squares + 1e-12).sqrt()


def _similarity(x: Tensor, y: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    mean_x, mean_y = (each.mean(dim=(2, 3), keepdim=True) for each in (x, y))
    texture = (2 * mean_x * mean_y + STABLE) / (mean_x**2 + mean_y**2 + STABLE)

    variance_x, variance_y = (((e - m) ** 2).mean(dim=(2, 3), keepdim=True) for e, m in ((x, mean_x), (y, mean_y)))
    covariance = (x * y).mean(dim=(2, 3), keepdim=True) - mean_x * mean_y
    structure = (2 * covariance + STABLE) / (variance_x + variance_y + STABLE)
    return (alpha * texture + beta * structure).sum()


def _read(path: Path, what: str, device: torch.device) -> State:
    try:
        return dict(torch.load(path, map_location=device, weights_only=True))
    except (OSError, RuntimeError, ValueError, TypeError, EOFError, UnpicklingError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ConfigError(f"{path} can't be read ({reason}) as {what}") from error
