"""Distances that follow what people see, one of which a run or an evaluation chooses; less is better.

Each looks at whole images, without leaving out a border, after sr was clipped and rounded to 8 bits. What a distance
needs of one pair of images is its `evidence`, which workers exchange; its `value` is of all images together.
"""

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sisr.errors import ConfigError
from sisr.losses.perceptual import URL, Vgg19, cached_weights, feature_mse
from sisr.metrics import swd

CHOICES = ("auto", "none", "lpips", "vgg", "swd")
MEANING = "auto (of the next three the first whose weights are here), lpips, vgg, swd, none or a VGG-19 weights file"
ALEXNET = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"  # torchvision's AlexNet_Weights.IMAGENET1K_V1
OTHERWISE = "or choose perceptual=swd, which needs neither weights nor packages"


class Distance(Protocol):
    """A way of measuring how far sr looks from hr."""

    name: str  # as it is logged
    stamp: str  # what exactly was measured, for the protocol
    power: int  # 2: a squared distance; 1: not
    least: int  # px, shortest side it can measure

    def evidence(self, sr: Tensor, hr: Tensor) -> Any:
        """Return what one pair of 8-bit images (1, 3, h, w) in [0, 1] contributes; a float where that is its value."""
        ...

    def value(self, evidence: Sequence[Any]) -> float:
        """Return the distance over all images, given in their own order."""
        ...


def offered(wanted: str, least: int | None = None) -> list[str]:
    """Return the measures that can be had here and now, best first, as `build` takes them.

    Nothing is downloaded: a run must not depend on a network, nor 1,000 workers on one server.

    Args:
        wanted: See `MEANING`.
        least: px, shortest side of the images to be measured, where it is known.

    Raises:
        ConfigError: What is asked for by name can't be had; the message says which file to put where.
    """
    if wanted == "auto":
        large = least is None or least >= Lpips.least
        found = ["lpips"] if large and find_spec("lpips") and alexnet_file().is_file() else []
        return [*found, *(["vgg"] if cached_weights().is_file() else []), "swd"]
    if wanted == "lpips":
        _check_lpips(least)
    elif wanted == "vgg" and not cached_weights().is_file():
        raise ConfigError(f"perceptual=vgg wants VGG-19's weights at {cached_weights()}: put {URL} there, {OTHERWISE}")
    elif wanted not in CHOICES and not Path(wanted).is_file():
        raise ConfigError(f"perceptual wants {MEANING}; '{wanted}' is none of these, and no file")
    return [] if wanted == "none" else [wanted]


def name_of(offered: str) -> str:
    """Return what one of the measures that were `offered` is logged as."""
    return {"lpips": Lpips.name, "swd": Swd.name}.get(offered, VggDistance.name)


def build(wanted: str, device: torch.device) -> Distance:
    """Return one of the measures that were `offered`.

    Raises:
        ConfigError: Its weights can't be read.
    """
    if wanted == "swd":
        return Swd()
    if wanted == "lpips":
        return Lpips(device)
    return VggDistance(cached_weights() if wanted == "vgg" else Path(wanted), device)


def alexnet_file() -> Path:
    """Return where torchvision keeps AlexNet's weights."""
    return cached_weights().with_name(Path(ALEXNET).name)


class Lpips:
    """Learned perceptual image patch similarity, of AlexNet's features, version 0.1.

    Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018.
    https://arxiv.org/abs/1801.03924
    """

    name, stamp, power, least = "lpips", "lpips-alex-v0.1", 1, 31

    def __init__(self, device: torch.device) -> None:
        """Load the network."""
        import lpips

        features = _read_features(alexnet_file())
        # Its constructor draws random weights first; a training run's own random numbers must not notice.
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings(action="ignore"):
            network = lpips.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False)
        # net.slice2.3.weight is features.3.weight
        state = {key: features[key.partition(".")[2]] for key in network.net.state_dict()}
        network.net.load_state_dict(state)
        self._network, self._device = network.to(device).eval().requires_grad_(False), device

    def evidence(self, sr: Tensor, hr: Tensor) -> float:
        """Return the distance of one pair."""
        pair = (2 * image.to(self._device, torch.float32) - 1 for image in (sr, hr))
        return float(self._network(*pair))

    def value(self, evidence: Sequence[float]) -> float:
        """Return the mean over the images."""
        return float(np.mean(evidence))


class VggDistance:
    """Mean squared difference of VGG-19's features at relu3_1, of images brought to ImageNet's mean and deviation."""

    name, power, least = "vgg_relu3_1", 2, 4

    def __init__(self, weights: Path, device: torch.device) -> None:
        """Load the network from a file."""
        self._network, self._device = Vgg19(["relu3_1"], str(weights)).to(device), device
        self.stamp = f"vgg19-relu3_1-mse({weights.name})"

    def evidence(self, sr: Tensor, hr: Tensor) -> float:
        """Return the distance of one pair."""
        return float(feature_mse(*(self._network(image.to(self._device)) for image in (sr, hr))))

    def value(self, evidence: Sequence[float]) -> float:
        """Return the mean over the images."""
        return float(np.mean(evidence))


class Swd:
    """Sliced Wasserstein distance of the patches of all images; see `sisr.metrics.swd`."""

    name, stamp, power, least = "swd", "swd-laplacian-7x7-x1000", 1, swd.PATCH

    def evidence(self, sr: Tensor, hr: Tensor) -> tuple[swd.Patches, swd.Patches]:
        """Return the patches of one pair."""
        return swd.patches(sr), swd.patches(hr)

    def value(self, evidence: Sequence[tuple[swd.Patches, swd.Patches]]) -> float:
        """Return the distance between all sr and all hr patches."""
        return swd.swd([sr for sr, _ in evidence], [hr for _, hr in evidence])


def _check_lpips(least: int | None) -> None:
    if not find_spec("lpips"):
        raise ConfigError(f"perceptual=lpips wants the package lpips: pip install 'sisr[perceptual]', {OTHERWISE}")
    if not alexnet_file().is_file():
        raise ConfigError(
            f"perceptual=lpips wants AlexNet's weights at {alexnet_file()}: put {ALEXNET} there, {OTHERWISE}"
        )
    if least is not None and least < Lpips.least:
        raise ConfigError(
            f"perceptual=lpips wants images of {Lpips.least} px a side, the smallest has {least}: {OTHERWISE}"
        )


def _read_features(path: Path) -> dict[str, Tensor]:
    """Return the convolutions of an AlexNet file by their names within `features`, such as `0.weight`."""
    try:
        state = dict(torch.load(path, map_location="cpu", weights_only=True))
        wanted = [f"{number}.{kind}" for number in (0, 3, 6, 8, 10) for kind in ("weight", "bias")]
        return {name: state[f"features.{name}"] for name in wanted}
    except (OSError, RuntimeError, ValueError, TypeError, EOFError, KeyError, UnpicklingError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ConfigError(f"{path} can't be read as AlexNet's weights ({reason}): replace it by {ALEXNET}") from error
