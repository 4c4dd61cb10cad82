"""The statistics that group normalisation uses, gathered piece by piece."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

GROUP_NORM = torch.ops.aten.native_group_norm.default  # (x, weight, bias, n, channels, height * width, groups, eps)


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
        (n, channels), pixels = x.shape[:2], x.shape[2:].numel()
        wide = x if x.dtype == torch.float64 else x.float()
        # The fastest way there is to both; what it normalises is thrown away. A group of equal values has no deviation.
        _, mean, factor = GROUP_NORM(wide.contiguous(), None, None, n, channels, pixels, num_groups, 0.0)
        count = channels // num_groups * pixels
        return cls(count, mean.double(), count * factor.double() ** -2)

    def merged(self, other: "Moments") -> "Moments":
        """Return the statistics of both together."""
        count, delta = self.count + other.count, other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        return Moments(count, mean, self.squares + other.squares + delta**2 * (self.count * other.count / count))

    def normalised(self, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        """Return features (n, c, h, w) normalised by these statistics: a batch normalisation with known ones."""
        (n, channels), dtype = x.shape[:2], torch.float64 if x.dtype == torch.float64 else torch.float32
        per_channel = channels // self.mean.shape[1]
        mean, variance = (
            each.repeat_interleave(per_channel, dim=1).flatten().to(dtype)
            for each in (self.mean, self.squares / self.count)
        )
        weight, bias = (None if each is None else each.to(dtype).repeat(n) for each in (weight, bias))
        together = x.reshape(1, n * channels, *x.shape[2:])
        return functional.batch_norm(together, mean, variance, weight, bias, eps=eps).reshape_as(x)
