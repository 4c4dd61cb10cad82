"""A row for each model: quality with its spread, the difference from a reference with its interval, and cost."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median, stdev
from typing import Any

from sisr.evaluation.bootstrap import Interval, paired_interval
from sisr.evaluation.measure import Report

PRIMARY = ("psnr_y", "ssim_y")  # more is better; of whatever else is measured, distances, less
WORDS = {"psnr_y": "PSNR-Y", "ssim_y": "SSIM-Y", "lpips": "LPIPS", "vgg_relu3_1": "VGG distance", "swd": "SWD"}
DIGITS = {"psnr_y": 2, "swd": 1, "vgg_relu3_1": 3}  # behind the point, in tables; of others 4
BETTER, WORSE, NOT_SHOWN, REFERENCE = "better", "worse", "no difference shown", "reference"
FEWEST = 6  # images: 5 differences have the same sign by chance once in 16 times, more often than 1 in 20
CEILING = 100.0  # dB: what an infinite PSNR, where sr equals hr, counts as in differences


@dataclass(frozen=True)
class Cost:
    """What a model takes; the first two are None for what is no network."""

    parameters: int | None
    multiply_adds: int | None  # on an lr of 64x64 px


@dataclass(frozen=True)
class Row:
    """One model in the comparison."""

    report: Report
    cost: Cost
    differences: dict[str, Interval]  # by metric; empty for the reference itself

    @property
    def model(self) -> str:
        """How the model is called."""
        return self.report.model

    @property
    def ms(self) -> float:
        """Milliseconds for an image, the median."""
        return 1000 * median(image.seconds for image in self.report.images)

    @property
    def verdict(self) -> str:
        """In a word how the model compares with the reference; for each metric where they disagree."""
        if not self.differences:
            return REFERENCE
        said = {metric: self.word(metric) for metric in self.differences}
        if len(set(said.values())) == 1:
            return said[PRIMARY[0]]
        return ", ".join(f"{WORDS[metric]} {word}" for metric, word in said.items())

    def word(self, metric: str) -> str:
        """Return how the model compares with the reference in one metric."""
        found = self.differences[metric]
        if len(self.report.images) < FEWEST:
            return NOT_SHOWN
        higher, lower = (BETTER, WORSE) if metric in PRIMARY else (WORSE, BETTER)
        return higher if found.low > 0 else lower if found.high < 0 else NOT_SHOWN

    def values(self, metric: str) -> list[float]:
        """Return a metric's value on each image; nothing for what is measured on all of them together."""
        return [image.values[metric] for image in self.report.images if metric in image.values]

    def spread(self, metric: str) -> float:
        """Return the standard deviation over images; NaN where a value is infinite, or there are none."""
        values = self.values(metric)
        return stdev(values) if values and all(map(math.isfinite, values)) else math.nan

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts and lists; what is infinite or undefined is counted in `infinite` and becomes null."""
        metrics = list(self.report.mean)
        return {
            "model": self.model,
            "verdict": self.verdict,
            "mean": self.report.mean,
            "standard_deviation": {metric: self.spread(metric) for metric in metrics},
            "difference": {m: {**asdict(d), "verdict": self.word(m)} for m, d in self.differences.items()},
            "infinite": sum(map(math.isinf, self.values("psnr_y"))),
            **asdict(self.cost),
            "ms_per_image": self.ms,
            "images": [{"name": i.name, **i.values, "seconds": i.seconds} for i in self.report.images],
        }


def rank(reports: Sequence[Report], costs: Sequence[Cost], reference: str) -> list[Row]:
    """Return a row for each report, in the same order.

    Args:
        reports: Of different models on the same images, two at least.
        costs: Of the same models.
        reference: The model that the others are compared with.
    """
    against = next(report for report in reports if report.model == reference)
    return [Row(r, c, _differences(r, against)) for r, c in zip(reports, costs, strict=True)]


def _differences(report: Report, against: Report) -> dict[str, Interval]:
    if report is against:
        return {}
    found = {}
    for metric in report.images[0].values:
        ours, theirs = ([min(i.values[metric], CEILING) for i in r.images] for r in (report, against))
        found[metric] = paired_interval([a - b for a, b in zip(ours, theirs, strict=True)])
    return found


def notes(rows: Sequence[Row]) -> list[str]:
    """Return in words what a reader of the table must know besides."""
    found = []
    count = len(rows[0].report.images)
    if count < FEWEST:
        found.append(
            f"{count} images are too few to call a difference shown: of fewer than {FEWEST}, all may agree by chance "
            "more often than 1 time in 20"
        )
    for row in rows:
        infinite = sum(map(math.isinf, row.values("psnr_y")))
        if infinite:
            found.append(
                f"{row.model}: PSNR is infinite on {infinite} of {count} images, where sr equals hr; in differences it "
                f"counts as {CEILING:g} dB"
            )
    return found


def number(metric: str, value: float) -> str:
    """Return a value as a table shows it."""
    return f"{value:.{DIGITS.get(metric, 4)}f}"


def interval(metric: str, difference: Interval | None) -> str:
    """Return a difference as a table shows it, such as `+0.420 [+0.310, +0.550]`."""
    if difference is None:
        return ""
    digits = 3 if metric.startswith("psnr") else 4
    mean, low, high = (f"{value:+.{digits}f}" for value in (difference.mean, difference.low, difference.high))
    return f"{mean} [{low}, {high}]"


def with_spread(metric: str, row: Row) -> str:
    """Return mean and standard deviation as a table shows them, such as `28.43 ± 3.10`."""
    spread = row.spread(metric)
    mean = number(metric, row.report.mean[metric])
    return f"{mean} ± {number(metric, spread)}" if math.isfinite(spread) else mean
