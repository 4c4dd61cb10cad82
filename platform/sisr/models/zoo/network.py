"""A network of another project as a generator: what it has beside its own class, and what it was built with."""

import copy
import importlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from sisr.errors import ConfigError
from sisr.inference.probe import PROBE_SIDE, receptive_radius
from sisr.models.zoo.span import fold, with_one_kernel
from sisr.nets.generator import Generator, Tiling

INSTALL = "pip install 'sisr[zoo]'"
# What architectures call the upscaling factor, and the channels of lr and sr.
SCALES = ("scale", "upscale", "up_scale", "upscaling_factor", "upscale_factor")
CHANNELS = ("num_in_ch", "num_out_ch", "in_nc", "out_nc", "in_ch", "out_ch", "in_chans", "inp_channels", "out_channels")


@dataclass(frozen=True)
class Architecture:
    """What builds a network: plain values that stand in a run's settings."""

    name: str  # of its class, such as SPAN or RealPLKSR
    scale: int  # sr side / lr side
    options: dict[str, Any]  # of its constructor, those that are not its defaults


class Adapted(Generator):
    """What a network of spandrel's has beside its own class: it is trained and used like a generator of ours."""

    architecture: Architecture
    description: str  # for people, such as `ESRGAN 64nf 23nb`
    tags: list[str]  # of its size, as spandrel calls them
    formats: frozenset[torch.dtype]  # half precisions in which it computes

    def forward(self, lr: Tensor) -> Tensor:
        """Return sr (n, 3, scale * h, scale * w), not clamped."""
        self.require_images(lr)
        kind = lr.device.type
        known = torch.amp.is_autocast_available(kind)  # not on "meta"
        if known and torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) not in self.formats:
            with torch.autocast(kind, enabled=False):
                return super().forward(lr.float())
        return super().forward(lr)

    def train(self, mode: bool = True) -> "Adapted":
        """Set the mode, but leave random layers and batch normalisation in evaluation."""
        super().train(mode)
        for module in self.modules():
            if "Drop" in type(module).__name__ or isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.training = False
        return self


class Called(Generator):
    """A network that spandrel calls in a way of its own; it can be used, but not trained."""

    def __init__(self, found: Any) -> None:
        super().__init__()
        self.network: nn.Module = found.model
        self._found = found
        self.description = _description(found)
        self.tiling = _measured(self, _tiling(found))

    def forward(self, lr: Tensor) -> Tensor:
        """Return sr (n, 3, scale * h, scale * w) in [0, 1]."""
        self.require_images(lr)
        sr: Tensor = self._found(lr)
        return sr


def spandrel() -> Any:
    """Return the package; raise ConfigError if it is not installed."""
    try:
        return importlib.import_module("spandrel")
    except ImportError as error:
        raise ConfigError(f"networks and weights of other projects need: {INSTALL}") from error


def classes() -> dict[str, type[nn.Module]]:
    """Return every architecture's class by its name; raise ConfigError without spandrel."""
    return {name: kind for module in _modules() for name, kind in _exported(module)}


def _modules() -> Iterator[ModuleType]:
    for entry in spandrel().MAIN_REGISTRY.architectures():
        yield importlib.import_module(type(entry.architecture).__module__)


def _exported(module: ModuleType) -> Iterator[tuple[str, type[nn.Module]]]:
    for name in module.__all__:
        kind = getattr(module, name)
        if isinstance(kind, type) and issubclass(kind, nn.Module) and hasattr(kind, "hyperparameters"):
            yield name, kind


def generator_of(found: Any) -> Adapted | Called:
    """Return the network of one of spandrel's descriptors as a generator, in training mode."""
    # A network that is called with more than the image, or of which nobody knows what it was built with.
    has_own_call = getattr(found._call_fn, "__module__", None) != type(found).__module__
    if has_own_call or not hasattr(found.model, "hyperparameters"):
        return Called(found)
    network, original = found.model, type(found.model)
    network.__class__ = type(original.__name__, (Adapted, original), {"__doc__": original.__doc__})
    with_one_kernel(network)
    name = next(name for name, kind in classes().items() if kind is original)
    network.architecture = Architecture(name, int(found.scale), _options(network, original, int(found.scale)))
    network.description, network.tags = _description(found), list(found.tags)
    halves = {torch.bfloat16: found.supports_bfloat16, torch.float16: found.supports_half}
    network.formats = frozenset(kind for kind, supported in halves.items() if supported)
    network.tiling = _tiling(found)
    network.tiling = _measured(fold(copy.deepcopy(network).eval()), network.tiling)
    adapted: Adapted = network.train()
    return adapted


def _tiling(found: Any) -> Tiling:
    needs = found.size_requirements
    return Tiling(int(found.scale), None, int(needs.multiple_of), max(1, int(needs.minimum)))


def _measured(network: Generator, anywhere: Tiling) -> Tiling:
    """Return how a network may be tiled, watched on an image that it takes."""
    network.tiling = anywhere
    return replace(anywhere, halo=receptive_radius(network, anywhere.padded(PROBE_SIDE)))


def _description(found: Any) -> str:
    return f"{found.architecture.name} {' '.join(found.tags)}".strip()


def _options(network: Any, kind: type[nn.Module], scale: int) -> dict[str, Any]:
    """Return what a network was built with, but for what `build` gives by itself and the constructor's defaults."""
    known = inspect.signature(kind).parameters
    usual = {name: known[name].default for name in known}
    usual |= dict.fromkeys(SCALES, scale) | dict.fromkeys(CHANNELS, 3)
    given = {name: plain(value) for name, value in network.hyperparameters.items()}
    return {name: value for name, value in given.items() if name not in usual or plain(usual[name]) != value}


def plain(value: Any) -> Any:
    """Return a tuple as the list that it is in a file, everything else as it is."""
    return list(value) if isinstance(value, tuple) else value
