"""Learned perceptual image patch similarity, of AlexNet's features, version 0.1.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018.
https://arxiv.org/abs/1801.03924
"""

import warnings
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from sisr.errors import ConfigError
from sisr.metrics.catalogue import METRICS
from sisr.metrics.perceptual import MeanOfImages


def build(weights: Path, device: torch.device) -> MeanOfImages:
    """Return the distance by the AlexNet in a file.

    Raises:
        ConfigError: It can't be read.
    """
    import lpips

    features = _read_features(weights)
    # Its constructor draws random weights first; a training run's own random numbers must not notice.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(action="ignore"):
        made = lpips.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False)
    # net.slice2.3.weight is features.3.weight
    made.net.load_state_dict({key: features[key.partition(".")[2]] for key in made.net.state_dict()})
    network = made.to(device).eval().requires_grad_(False)

    def measure(sr: Tensor, hr: Tensor) -> float:
        return float(network(*(2 * image.to(device, torch.float32) - 1 for image in (sr, hr))))

    return MeanOfImages("lpips", "lpips-alex-v0.1", 1, measure)


def _read_features(path: Path) -> dict[str, Tensor]:
    """Return the convolutions of an AlexNet file by their names within `features`, such as `0.weight`."""
    try:
        state = dict(torch.load(path, map_location="cpu", weights_only=True))
        names = [f"{number}.{kind}" for number in (0, 3, 6, 8, 10) for kind in ("weight", "bias")]
        return {name: state[f"features.{name}"] for name in names}
    except (OSError, RuntimeError, ValueError, TypeError, EOFError, KeyError, UnpicklingError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        source = METRICS["lpips"].weights
        raise ConfigError(f"{path} can't be read as AlexNet's weights ({reason}): replace it by {source}") from error
