"""Group normalisation of an image that is computed in tiles, with the statistics of the whole image.

They are collected over all tiles first, layer after layer: each layer's input depends on the statistics of the layers
before it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class LayerReachedError(Exception):
    """The layer whose statistics are being collected has been reached; nothing after it is needed. Never escapes."""


class GlobalGroupNorm(TorchFunctionMode):
    """Inside it, every group normalisation of a tile uses the statistics of the whole image.

    Layers are told apart by the order in which one forward pass calls them. While `collecting`, the first layer whose
    statistics are not known yet adds the tile's core to them and stops the forward pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self._known: list[Moments] = []
        self._moments: Moments | None = None
        self._calls = 0
        self._core_of: Callable[[Tensor], Tensor] = lambda x: x

    def begin(self, core_of: Callable[[Tensor], Tensor]) -> None:
        """Prepare for the forward pass of a tile, whose core `core_of` cuts out of its features."""
        self._core_of, self._calls = core_of, 0

    def end_layer(self) -> None:
        """All tiles have added to the layer being collected: its statistics are known from now on."""
        assert self._moments is not None
        self._known.append(self._moments)
        self._moments = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Replace group normalisation; everything else is as always."""
        call = self._group_norm if func in (functional.group_norm, torch.group_norm) else func
        return call(*args, **(kwargs or {}))

    def _group_norm(
        self, x: Tensor, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
    ) -> Tensor:
        layer = self._calls
        self._calls += 1
        if layer == len(self._known):
            found = Moments.of(self._core_of(x), num_groups)
            self._moments = found if self._moments is None else self._moments.merged(found)
            raise LayerReachedError
        moments, (n, channels) = self._known[layer], x.shape[:2]
        factor = torch.rsqrt(moments.squares / moments.count + eps)
        mean, factor = (v.repeat_interleave(channels // num_groups, dim=1).to(x.dtype) for v in (moments.mean, factor))
        if weight is not None:
            factor = factor * weight
        normal = (x - mean.view(n, channels, 1, 1)) * factor.view(n, channels, 1, 1)
        return normal if bias is None else normal + bias.view(1, channels, 1, 1)


@dataclass(frozen=True)
class Moments:
    """Statistics of each image's groups (n, groups), in float64: how many values, their mean, their squared distances.

    Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
    """

    count: int
    mean: Tensor
    squares: Tensor

    @classmethod
    def of(cls, x: Tensor, num_groups: int) -> "Moments":
        """Return the statistics of features (n, c, h, w)."""
        groups = x.reshape(x.shape[0], num_groups, -1).double()
        variance, mean = torch.var_mean(groups, dim=2, correction=0)
        return cls(groups.shape[2], mean, variance * groups.shape[2])

    def merged(self, other: "Moments") -> "Moments":
        """Return the statistics of both together."""
        count, delta = self.count + other.count, other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        return Moments(count, mean, self.squares + other.squares + delta**2 * (self.count * other.count / count))
