"""What every perceptual distance can do, which of them a run or an evaluation measures, and whether it is here.

Less is better. Each looks at whole images, without leaving out a border, after sr was clipped and rounded to 8 bits.
What a distance needs of one pair of images is its `evidence`, which workers exchange; its `value` is of all images
together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sisr.errors import ConfigError
from sisr.losses.perceptual import cached_weights
from sisr.metrics.catalogue import DISTANCES, FURTHER, PERCEPTUAL_MEANING, Metric, further_names

OPTIONS = {metric.option: metric for metric in DISTANCES}  # best first
OTHERWISE = "or choose perceptual=swd, which needs neither weights nor packages"


class Distance(Protocol):
    """A way of measuring how far sr looks from hr."""

    name: str  # in `sisr.metrics.catalogue`
    stamp: str  # what exactly was measured, for the protocol
    power: int  # 2 of a squared distance, else 1

    def evidence(self, sr: Tensor, hr: Tensor) -> Any:
        """Return what one pair of 8-bit images (1, 3, h, w) in [0, 1] contributes; a float where that is its value."""
        ...

    def value(self, evidence: Sequence[Any]) -> float:
        """Return the distance over all images, given in their own order."""
        ...

    def values_without(self, evidence: Sequence[Any], groups: Sequence[Sequence[int]]) -> list[float]:
        """Return for each group of images, given by their places, the distance over all other images."""
        ...


@dataclass
class MeanOfImages:
    """A distance that each pair of images has; that of all images is their mean."""

    name: str
    stamp: str
    power: int
    measure: Callable[[Tensor, Tensor], float]

    def evidence(self, sr: Tensor, hr: Tensor) -> float:
        return self.measure(sr, hr)

    def value(self, evidence: Sequence[float]) -> float:
        return float(np.mean(evidence))

    def values_without(self, evidence: Sequence[float], groups: Sequence[Sequence[int]]) -> list[float]:
        return [float(np.mean(np.delete(np.asarray(evidence), group))) for group in groups]


def offered(request: str, least: int | None = None) -> list[str]:
    """Return the distances that can be had here and now, best first, as `build` takes them.

    Nothing is downloaded: a run must not depend on a network, nor 1,000 workers on one server.

    Args:
        request: See `catalogue.PERCEPTUAL_MEANING`.
        least: px, shortest side of the images to be measured, where it is known.

    Raises:
        ConfigError: What is asked for by name can't be had; the message says which file to put where.
    """
    if request == "auto":
        return [option for option, metric in OPTIONS.items() if not _missing(metric, least)]
    if request in OPTIONS:
        if reason := _missing(OPTIONS[request], least):
            raise ConfigError(f"perceptual={request} needs {reason}, {OTHERWISE}")
    elif request != "none" and not Path(request).is_file():
        raise ConfigError(f"perceptual must be {PERCEPTUAL_MEANING}; '{request}' is none of these, and no file")
    return [] if request == "none" else [request]


def further(request: str, least: int | None = None) -> tuple[list[str], list[str]]:
    """Return which of the further metrics of a request can be had here, and why the others can't, a line for each.

    Raises:
        ConfigError: There is no metric of that name.
    """
    wanted = {metric.name: _missing(metric, least) for metric in FURTHER if metric.name in further_names(request)}
    lines = [f"{name} is left out: it needs {reason}" for name, reason in wanted.items() if reason]
    return [name for name, reason in wanted.items() if not reason], lines


def build_further(request: str, device: torch.device, least: int | None = None) -> tuple[list[Distance], list[str]]:
    """Return the further metrics of a request that can be had here, and why the others can't, a line for each."""
    names, lines = further(request, least)
    built = []
    for name in names:
        metric = next(each for each in FURTHER if each.name == name)
        try:
            built.append(import_module(f"{__package__}.{metric.file}").build(_weights_file(metric), device))
        except ConfigError as error:
            lines.append(f"{name} is left out: {error}")
    return built, lines


def metric_of(offer: str) -> Metric:
    """Return the metric that one of the distances that were `offered` measures."""
    return OPTIONS.get(offer, OPTIONS["vgg"])  # else it is a weights file


def build(offer: str, device: torch.device) -> Distance:
    """Return one of the distances that were `offered`.

    Raises:
        ConfigError: Its weights can't be read.
    """
    metric = metric_of(offer)
    distance: Distance = import_module(f"{__package__}.{metric.file}").build(
        _weights_file(metric) if offer in OPTIONS else Path(offer), device
    )
    return distance


def _weights_file(metric: Metric) -> Path:
    """Return where torchvision keeps a metric's weights."""
    return cached_weights().parent / Path(metric.weights).name


def _missing(metric: Metric, least: int | None) -> str:
    """Return what a distance needs and does not have here; empty where it can be had."""
    if metric.package and not find_spec(metric.package):
        return f"the package {metric.package}: pip install 'sisr[{metric.extra}]'"
    if metric.weights and not _weights_file(metric).is_file():
        return f"its weights at {_weights_file(metric)}: put {metric.weights} there"
    if least is not None and least < metric.least:
        return f"images of {metric.least} px a side, the smallest has {least}"
    return ""
