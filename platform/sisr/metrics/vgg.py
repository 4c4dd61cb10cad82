"""Mean squared difference of VGG-19's features at relu3_1, of images brought to ImageNet's mean and deviation."""

from pathlib import Path

import torch
from torch import Tensor

from sisr.losses.perceptual import Vgg19, feature_mse
from sisr.metrics.perceptual import MeanOfImages


def build(weights: Path, device: torch.device) -> MeanOfImages:
    """Return the distance by the network in a file.

    Raises:
        ConfigError: It can't be read.
    """
    network = Vgg19(["relu3_1"], str(weights)).to(device)

    def measure(sr: Tensor, hr: Tensor) -> float:
        return float(feature_mse(network(sr.to(device)), network(hr.to(device))))

    return MeanOfImages("vgg_relu3_1", f"vgg19-relu3_1-mse({weights.name})", 2, measure)
