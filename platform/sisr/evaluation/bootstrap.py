"""How sure one can be that one model is better than another: both measured on the same images.

Images differ far more from each other than models do, so the differences image by image are what is resampled.
Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13 (the percentile interval).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
SEED = 1993  # the interval of the same differences is always the same
CHUNK = 1_000_000  # resampled values held in memory at a time


@dataclass(frozen=True)
class Interval:
    """A mean and where, by resampling, it lies with the confidence that was asked for."""

    mean: float
    low: float
    high: float


def paired_interval(differences: Sequence[float], confidence: float = 0.95, resamples: int = RESAMPLES) -> Interval:
    """Return the mean of paired differences with its percentile bootstrap interval.

    Args:
        differences: One per image: the one model's value less the other's; at least two, all finite.
        confidence: Share of such intervals that hold the true mean, between 0 and 1.
        resamples: How many times as many images are drawn, with replacement.

    Raises:
        ValueError: There are too few differences, or one is not finite.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.size < 2 or not np.isfinite(values).all():
        raise ValueError(f"an interval wants at least 2 finite differences, got {values.tolist()[:5]}")
    draws = np.random.default_rng(SEED)
    rows = max(1, CHUNK // values.size)
    counts = [min(rows, resamples - done) for done in range(0, resamples, rows)]
    means = np.concatenate([values[draws.integers(values.size, size=(n, values.size))].mean(1) for n in counts])
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(math.fsum(values) / values.size, float(low), float(high))
