"""What every perceptual distance can do; less is better.

Each looks at whole images, without leaving out a border, after sr was clipped and rounded to 8 bits. What a distance
needs of one pair of images is its `evidence`, which workers exchange; its `value` is of all images together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor


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
        """Return the distance of one pair."""
        return self.measure(sr, hr)

    def value(self, evidence: Sequence[float]) -> float:
        """Return the mean over the images."""
        return float(np.mean(evidence))

    def values_without(self, evidence: Sequence[float], groups: Sequence[Sequence[int]]) -> list[float]:
        """Return for each group of images the mean over all others."""
        return [float(np.mean(np.delete(np.asarray(evidence), group))) for group in groups]
