"""Fréchet distance between Inception's features of the patches of all sr and of all hr. Less is better.

Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", 2017, section 5.
https://arxiv.org/abs/1706.08500

Patches of 128 px, side by side, which the network enlarges to 299 px: images of super-resolution are few, and large.
Few patches give too large a value: it compares models on the same images, and papers' only with as many patches.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sisr.errors import ConfigError
from sisr.metrics.catalogue import METRICS

PATCH = 128  # px
AT_ONCE = 16  # patches in the network at a time: memory

Features = NDArray[np.float64]  # (n, 2048)


class Fid:
    """The distance; the network is called with patches (n, 3, 128, 128) in [0, 1] and returns (n, 2048, 1, 1)."""

    name, stamp, power = "fid", f"fid-inception-{PATCH}px-patches", 2

    def __init__(self, network: Any, device: torch.device) -> None:
        self._network, self._device = network, device

    def evidence(self, sr: Tensor, hr: Tensor) -> tuple[Features, Features]:
        return self._features(sr), self._features(hr)

    def value(self, evidence: Sequence[tuple[Features, Features]]) -> float:
        ours, theirs = (np.concatenate(each) for each in zip(*evidence, strict=True))
        return frechet(ours, theirs)

    def values_without(
        self, evidence: Sequence[tuple[Features, Features]], groups: Sequence[Sequence[int]]
    ) -> list[float]:
        kept = ([each for i, each in enumerate(evidence) if i not in set(group)] for group in groups)
        return [self.value(each) for each in kept]

    def _features(self, image: Tensor) -> Features:
        found = [self._network(part.to(self._device))[0].flatten(1) for part in patches(image.float()).split(AT_ONCE)]
        return np.asarray(torch.cat(found).double().cpu().numpy())


def build(weights: Path, device: torch.device) -> Fid:
    """Return the distance by the network in a file, where torch's cache keeps it.

    Raises:
        ConfigError: It can't be read.
    """
    from pytorch_fid.inception import InceptionV3

    try:
        network = InceptionV3([InceptionV3.BLOCK_INDEX_BY_DIM[2048]])
    except (OSError, RuntimeError, ValueError, TypeError, EOFError, KeyError, UnpicklingError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        source = METRICS["fid"].weights
        raise ConfigError(
            f"{weights} can't be read as Inception's weights ({reason}): replace it by {source}"
        ) from error
    return Fid(network.to(device).eval(), device)


def patches(image: Tensor) -> Tensor:
    """Return the patches (n, 3, 128, 128) of an image (1, 3, h, w), around its middle."""
    height, width = (side // PATCH * PATCH for side in image.shape[2:])
    top, left = (image.shape[2] - height) // 2, (image.shape[3] - width) // 2
    inside = image[0, :, top : top + height, left : left + width]
    found = inside.reshape(3, height // PATCH, PATCH, width // PATCH, PATCH)
    return found.permute(1, 3, 0, 2, 4).flatten(0, 1)


def frechet(ours: Features, theirs: Features) -> float:
    """Return |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of two sets of features, each row one; NaN of fewer than two.

    The trace of the root is the sum of the singular values of R1 R2^T, where C = R^T R: no root of a matrix that has
    none, as that of few patches.
    """
    if min(len(ours), len(theirs)) < 2:
        return math.nan
    centred = [(each - each.mean(axis=0)) / math.sqrt(len(each) - 1) for each in (ours, theirs)]
    roots = [np.asarray(np.linalg.qr(each, mode="r")) for each in centred]
    together = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    apart = ours.mean(axis=0) - theirs.mean(axis=0)
    return float(apart @ apart + sum((each**2).sum() for each in centred) - 2 * together)
