"""A row for each model: quality with its spread, the difference from a reference with its interval, and cost."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median, stdev
from typing import Any

from sisr.evaluation.difference import CEILING, TOO_FEW, PairedDifference, difference
from sisr.evaluation.measure import Measurement
from sisr.metrics.catalogue import FEWEST, METRICS, PSNR_Y, SCORE

REFERENCE = "reference"
LOSS = 1.0  # dB below bicubic from which on a good score by SWD is doubted


@dataclass(frozen=True)
class Cost:
    """What a model takes; both are None for what is no network."""

    parameters: int | None
    multiply_adds: int | None  # on an lr of 64x64 px


@dataclass(frozen=True)
class Ranked:
    """One model in the comparison."""

    measured: Measurement
    cost: Cost
    differences: dict[str, PairedDifference]  # from the reference, by metric; empty for the reference itself

    @property
    def model(self) -> str:
        """How the model is called."""
        return self.measured.model

    @property
    def ms(self) -> float:
        """Milliseconds for an image, the median."""
        return 1000 * median(image.seconds for image in self.measured.images)

    @property
    def verdict(self) -> str:
        """In a word how the model compares with the reference; for each metric where they disagree."""
        if not self.differences:
            return REFERENCE
        words = {found.metric.title: found.word for found in self.differences.values()}
        if len(set(words.values())) == 1:
            return next(iter(words.values()))
        return ", ".join(f"{title} {word}" for title, word in words.items())

    def values(self, metric: str) -> list[float]:
        """Return a metric's value on each image; nothing for what is measured on all of them together."""
        return [image.values[metric] for image in self.measured.images if metric in image.values]

    def spread(self, metric: str) -> float:
        """Return the standard deviation over images; NaN where a value is infinite, or there are none."""
        values = self.values(metric)
        return stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else math.nan

    def text(self, metric: str) -> str:
        """Return mean and standard deviation as a table shows them, such as `28.43 ± 3.10`."""
        spread = self.spread(metric)
        mean, deviation = (METRICS[metric].text(v, unit=False) for v in (self.measured.mean[metric], spread))
        return f"{mean} ± {deviation}" if math.isfinite(spread) else mean

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts and lists; what is infinite or undefined is counted in `infinite` and becomes null."""
        mean = self.measured.mean
        return {
            "model": self.model,
            "verdict": self.verdict,
            "mean": mean,
            "standard_deviation": {metric: self.spread(metric) for metric in mean},
            "difference": {m: {**asdict(d.interval), "verdict": d.word} for m, d in self.differences.items()},
            "infinite": sum(map(math.isinf, self.values(PSNR_Y.name))),
            **asdict(self.cost),
            "ms_per_image": self.ms,
            "images": [{"name": i.name, **i.values, "seconds": i.seconds} for i in self.measured.images],
        }


def rank(measured: Sequence[Measurement], costs: Sequence[Cost], reference: str) -> list[Ranked]:
    """Return a row for each of two models or more, measured on the same images, against the one called `reference`."""
    against = next(found for found in measured if found.model == reference)
    rows = []
    for ours, cost in zip(measured, costs, strict=True):
        found = {} if ours is against else {name: difference(ours, against, METRICS[name]) for name in ours.mean}
        rows.append(Ranked(ours, cost, {name: value for name, value in found.items() if value}))
    return rows


def notes(rows: Sequence[Ranked]) -> list[str]:
    """Return in words what a reader of the table must know besides."""
    count = len(rows[0].measured.images)
    found = [f"{count} images are {TOO_FEW} more often than 1 time in 20"] if count < FEWEST else []
    for row in rows:
        if infinite := sum(map(math.isinf, row.values(PSNR_Y.name))):
            found.append(
                f"{row.model}: PSNR is infinite on {infinite} of {count} images, where sr equals hr; in differences it "
                f"counts as {CEILING:g} dB"
            )
    return found


def forgiven(measured: Sequence[Measurement]) -> list[str]:
    """Return in words which models score well by SWD alone, with far less PSNR than bicubic, which was measured, too.

    SWD looks at the statistics of patches: a generator that has learned nothing but leaves a regular grid has some of
    the fine structure that bicubic lacks.
    """
    bicubic = next((found.mean[PSNR_Y.name] for found in measured if found.model == "bicubic"), None)
    if bicubic is None or not all(found.distance and found.distance.name == "swd" for found in measured):
        return []
    return [
        f"{found.model} has {PSNR_Y.difference(lost)} against bicubic, and its score of "
        f"{SCORE.text(found.mean[SCORE.name])} comes from SWD, which compares textures wherever they lie and forgives "
        "a grid: look at the pictures, or judge by VGG features (--perceptual FILE)"
        for found in measured
        if (lost := found.mean[PSNR_Y.name] - bicubic) < -LOSS and found.mean[SCORE.name] > 0
    ]
