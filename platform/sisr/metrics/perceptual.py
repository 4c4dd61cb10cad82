"""Which perceptual distance a run or an evaluation measures, and whether it can be had here."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch

from sisr.errors import ConfigError
from sisr.losses.perceptual import cached_weights
from sisr.metrics.catalogue import DISTANCES, Metric
from sisr.metrics.distance import Distance

OPTIONS = {metric.option: metric for metric in DISTANCES}  # best first
WEIGHTS_OF_A_FILE = OPTIONS["vgg"]  # what a weights file is taken for
CHOICES = ("auto", "none", *OPTIONS)
MEANING = "auto (of the next three the first whose weights are here), lpips, vgg, swd, none or a VGG-19 weights file"
OTHERWISE = "or choose perceptual=swd, which needs neither weights nor packages"


def offered(request: str, least: int | None = None) -> list[str]:
    """Return the distances that can be had here and now, best first, as `build` takes them.

    Nothing is downloaded: a run must not depend on a network, nor 1,000 workers on one server.

    Args:
        request: See `MEANING`.
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
        raise ConfigError(f"perceptual must be {MEANING}; '{request}' is none of these, and no file")
    return [] if request == "none" else [request]


def metric_of(offer: str) -> Metric:
    """Return the metric that one of the distances that were `offered` measures."""
    return OPTIONS.get(offer, WEIGHTS_OF_A_FILE)


def build(offer: str, device: torch.device) -> Distance:
    """Return one of the distances that were `offered`.

    Raises:
        ConfigError: Its weights can't be read.
    """
    metric = metric_of(offer)
    distance: Distance = import_module(f"{__package__}.{metric.file}").build(
        weights_file(metric) if offer in OPTIONS else Path(offer), device
    )
    return distance


def weights_file(metric: Metric) -> Path:
    """Return where torchvision keeps a metric's weights."""
    return cached_weights().parent / Path(metric.weights).name


def _missing(metric: Metric, least: int | None) -> str:
    """Return what a distance needs and does not have here; empty where it can be had."""
    if metric.package and not find_spec(metric.package):
        return f"the package {metric.package}: pip install 'sisr[perceptual]'"
    if metric.weights and not weights_file(metric).is_file():
        return f"its weights at {weights_file(metric)}: put {metric.weights} there"
    if least is not None and least < metric.least:
        return f"images of {metric.least} px a side, the smallest has {least}"
    return ""
