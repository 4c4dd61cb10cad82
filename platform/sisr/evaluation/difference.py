"""Whether one model is better than another in a metric: the one rule of the gate and of comparisons.

Images differ far more from each other than models do: so both are measured on the same images, and what is looked at
are differences image by image. What belongs to all images together, as SWD does, and the score, which is no mean of
values of images, is looked at by leaving images out in turn (the jackknife: Efron and Tibshirani, "An Introduction to
the Bootstrap", 1993, chapter 11): how much the difference changes without an image is how much that image contributes
to it. For a mean these contributions are the images' own differences. With more than 25 images, groups of them are left
out instead.

For few differences the interval is Student's, which allows for how badly few values show their own spread; a bootstrap
of 6 images holds the true mean in 86 % of the cases instead of 95 %. For many it is the percentile bootstrap, which
needs no law of how differences are distributed: the same book, chapter 13.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sisr.evaluation.measure import Measurement
from sisr.metrics.catalogue import FEWEST, PSNR_Y, SCORE, Metric
from sisr.metrics.score import score

BETTER, WORSE, NOT_SHOWN = "better", "worse", "no difference shown"
TOO_FEW = f"too few to call a difference shown: of fewer than {FEWEST}, all may agree by chance"
GROUPS = 25  # most that are left out in turn
CEILING = 100.0  # dB: what an infinite PSNR, where sr equals hr, counts as in differences
CONFIDENCE = 0.95
MANY = 30  # images from which on the bootstrap takes over
RESAMPLES = 10_000
SEED = 1993  # the interval of the same differences is always the same
CHUNK = 1_000_000  # resampled values held in memory at a time


@dataclass(frozen=True)
class Interval:
    """A mean and where it lies with confidence `CONFIDENCE`."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedDifference:
    """How much more of a metric a model has than another."""

    metric: Metric
    interval: Interval  # of the one's value less the other's
    num_images: int

    @property
    def word(self) -> str:
        """In a word which of the two is better: `BETTER`, `WORSE` or `NOT_SHOWN`."""
        if self.num_images < FEWEST:
            return NOT_SHOWN
        higher, lower = (BETTER, WORSE) if self.metric.mode == "max" else (WORSE, BETTER)
        return higher if self.interval.low > 0 else lower if self.interval.high < 0 else NOT_SHOWN

    def text(self, *, unit: bool = True) -> str:
        """Return it as people read it, such as `+0.310 dB [+0.280, +0.350]`."""
        found = self.interval
        low, high = (self.metric.difference(value, unit=False) for value in (found.low, found.high))
        return f"{self.metric.difference(found.mean, unit=unit)} [{low}, {high}]"


def difference(ours: Measurement, theirs: Measurement, metric: Metric) -> PairedDifference | None:
    """Return how `ours` differs from `theirs`, measured on the same images; None where no number can say it.

    That is with fewer than two images, and where a value has no finite difference.
    """
    values = contributions(ours, theirs, metric)
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return None
    return PairedDifference(metric, paired_interval(values), len(ours.images))


def contributions(ours: Measurement, theirs: Measurement, metric: Metric) -> list[float]:
    """Return what each image, or each group of them, contributes to a difference: their mean is the difference.

    Both must have been measured in `metric`.
    """
    if metric.name in ours.images[0].values:
        pairs = zip(_capped(ours, metric), _capped(theirs, metric), strict=True)
        return [one - other for one, other in pairs]
    count = len(ours.images)
    if count < 2:
        return []
    groups = [part.tolist() for part in np.array_split(np.arange(count), min(count, GROUPS))]
    whole, *found = _without(ours, theirs, metric, [[], *groups])
    if not math.isfinite(whole):
        return [whole] * len(groups)
    return [float(value) for value in whole - (len(groups) - 1) * (np.asarray(found) - np.mean(found))]


def _without(ours: Measurement, theirs: Measurement, metric: Metric, groups: Sequence[Sequence[int]]) -> list[float]:
    """Return the difference in the distance or the score without each group of images."""
    if metric.name in ours.further:
        measure = ours.further[metric.name][0]
        values = (measure.values_without(each.further[metric.name][1], groups) for each in (ours, theirs))
        return [one - other for one, other in zip(*values, strict=True)]
    assert ours.distance is not None
    perception = [ours.distance.values_without(each.evidence, groups) for each in (ours, theirs)]
    if metric is not SCORE:
        return [one - other for one, other in zip(*perception, strict=True)]
    fidelity = ([float(np.delete(_capped(each, PSNR_Y), group).mean()) for group in groups] for each in (ours, theirs))
    parts = zip(*fidelity, *perception, strict=True)
    return [score(psnr, before, distance, old, ours.distance.power) for psnr, before, distance, old in parts]


def _capped(measured: Measurement, metric: Metric) -> list[float]:
    values = [image.values[metric.name] for image in measured.images]
    return [min(value, CEILING) for value in values] if metric.unit == "dB" else values


def paired_interval(differences: Sequence[float], resamples: int = RESAMPLES) -> Interval:
    """Return the mean of paired differences with its interval.

    Args:
        differences: One per image: the one model's value less the other's; at least two, all finite.
        resamples: How many times as many images are drawn, with replacement, where they are `MANY`.

    Raises:
        ValueError: There are too few differences, or one is not finite.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.size < 2 or not np.isfinite(values).all():
        raise ValueError(f"an interval needs at least 2 finite differences, got {values.tolist()[:5]}")
    mean = math.fsum(values) / values.size
    if values.size < MANY:
        from scipy.special import stdtrit  # type: ignore[import-untyped]  # takes a moment to import

        errors = stdtrit(values.size - 1, (1 + CONFIDENCE) / 2)  # so many standard errors to either side hold the mean
        half = errors * values.std(ddof=1) / math.sqrt(values.size)
        return Interval(mean, float(mean - half), float(mean + half))
    low, high = np.quantile(_resampled_means(values, resamples), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(mean, float(low), float(high))


def _resampled_means(values: NDArray[np.float64], resamples: int) -> NDArray[np.float64]:
    draws = np.random.default_rng(SEED)
    rows = max(1, CHUNK // values.size)
    counts = [min(rows, resamples - done) for done in range(0, resamples, rows)]
    return np.concatenate([values[draws.integers(values.size, size=(n, values.size))].mean(1) for n in counts])
