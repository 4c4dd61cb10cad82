"""Whether one model is better than another in a metric: the one rule of the gate and of comparisons.

Both are measured on the same images, and the difference is looked at image by image. What belongs to all images
together, as SWD does, and the score, which is no mean of values of images, is looked at by leaving images out in turn
(the jackknife: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 11): how much the difference
changes without an image is how much that image contributes to it. For a mean these contributions are the images' own
differences. With more than 25 images, groups of them are left out instead.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sisr.evaluation.bootstrap import Interval, paired_interval
from sisr.evaluation.measurement import Measurement
from sisr.metrics.catalogue import PSNR_Y, SCORE, Metric
from sisr.metrics.score import score

BETTER, WORSE, NOT_SHOWN = "better", "worse", "no difference shown"
FEWEST = 6  # images: 5 differences have the same sign by chance once in 16 times, more often than 1 in 20
TOO_FEW = f"too few to call a difference shown: of fewer than {FEWEST}, all may agree by chance"
GROUPS = 25  # most that are left out in turn
CEILING = 100.0  # dB: what an infinite PSNR, where sr equals hr, counts as in differences


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
    if metric is SCORE:
        return _by_leaving_out(ours, theirs, _score_without)
    if metric.name not in ours.images[0].values:
        return _by_leaving_out(ours, theirs, _distance_without)
    pairs = zip(_capped(ours, metric), _capped(theirs, metric), strict=True)
    return [one - other for one, other in pairs]


Groups = Sequence[Sequence[int]]


def _by_leaving_out(
    ours: Measurement, theirs: Measurement, without: Callable[[Measurement, Measurement, Groups], list[float]]
) -> list[float]:
    """Return contributions around the difference of all images, from that without each group of them."""
    count = len(ours.images)
    if count < 2:
        return []
    groups = [part.tolist() for part in np.array_split(np.arange(count), min(count, GROUPS))]
    whole, *found = without(ours, theirs, [[], *groups])
    if not math.isfinite(whole):
        return [whole] * len(groups)
    return [float(value) for value in whole - (len(groups) - 1) * (np.asarray(found) - np.mean(found))]


def _distance_without(ours: Measurement, theirs: Measurement, groups: Groups) -> list[float]:
    assert ours.distance is not None
    pairs = (ours.distance.values_without(each.evidence, groups) for each in (ours, theirs))
    return [one - other for one, other in zip(*pairs, strict=True)]


def _score_without(ours: Measurement, theirs: Measurement, groups: Groups) -> list[float]:
    assert ours.distance is not None
    fidelity = ([float(np.delete(_capped(each, PSNR_Y), group).mean()) for group in groups] for each in (ours, theirs))
    perception = (ours.distance.values_without(each.evidence, groups) for each in (ours, theirs))
    parts = zip(*fidelity, *perception, strict=True)
    return [score(psnr, before, distance, old, ours.distance.power) for psnr, before, distance, old in parts]


def _capped(measured: Measurement, metric: Metric) -> list[float]:
    values = [image.values[metric.name] for image in measured.images]
    return [min(value, CEILING) for value in values] if metric.unit == "dB" else values
