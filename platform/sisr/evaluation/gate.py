"""What a model must show before others get it: better than bicubic and than the model in use, beyond noise."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sisr.errors import ConfigError, DataError
from sisr.evaluation.bootstrap import Interval, paired_interval
from sisr.evaluation.measure import Report
from sisr.metrics.protocol import Protocol

LEAST_IMAGES = 2
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Test:
    """One test of the gate and how it went."""

    name: str
    passed: bool
    finding: str  # in words, with numbers
    gain: Interval | None = None  # of the candidate over `name`, where that is another model


def check_metric(by: str, rule: Protocol) -> None:
    """Raise ConfigError unless the protocol measures the metric `by`."""
    if by not in rule.metrics:
        raise ConfigError(
            f"--by {by} is not measured under protocol {rule.name}: choose one of {', '.join(rule.metrics)}"
        )


def reported(metrics: Mapping[str, float]) -> Test:
    """Return the test of what a run itself reported at its end: something, and all of it finite.

    Args:
        metrics: Last value of each; a number that wasn't finite was delivered as `NAME_finite` = 0.
    """
    final = {name: value for name, value in metrics.items() if name.startswith("final/")}
    broken = [name.removesuffix("_finite") for name, value in final.items() if name.endswith("_finite") and not value]
    broken += [name for name, value in final.items() if not math.isfinite(value)]
    if not final:
        return Test("run", False, "it reports no final/... metric: it has not come to its end")
    if broken:
        return Test("run", False, f"it reports numbers that are not finite: {', '.join(broken)}")
    return Test("run", True, f"all {len(final)} of its final metrics are finite")


def judge(candidate: Report, rivals: Sequence[Report], by: str) -> list[Test]:
    """Return the tests of a candidate: that every number is finite, then one against each rival.

    Args:
        candidate: What the new model reached.
        rivals: What bicubic and the model in use reached, on the same images under the same protocol.
        by: The metric that decides; higher is better.

    Raises:
        DataError: There are too few images to know what noise is.
    """
    if len(candidate.images) < LEAST_IMAGES:
        raise DataError(f"one image can't show what is noise: the gate wants at least {LEAST_IMAGES} images")
    broken = _not_finite(candidate)
    if broken:
        return [Test("finite", False, f"{len(broken)} numbers are not finite: {', '.join(broken[:3])}")]
    count = sum(len(image.values) for image in candidate.images)
    return [Test("finite", True, f"all {count} numbers are finite"), *(_against(candidate, r, by) for r in rivals)]


def _not_finite(report: Report) -> list[str]:
    values = [(image.name, metric, value) for image in report.images for metric, value in image.values.items()]
    return [f"{metric} of {name} is {value}" for name, metric, value in values if not math.isfinite(value)]


def _against(candidate: Report, rival: Report, by: str) -> Test:
    pairs = zip(candidate.images, rival.images, strict=True)
    gain = paired_interval([ours.values[by] - theirs.values[by] for ours, theirs in pairs], CONFIDENCE)
    passed = gain.low > 0
    how = "better" if passed else "worse" if gain.high < 0 else "not better beyond noise"
    return Test(rival.model, passed, f"{how}: {described(gain, by)}", gain)


def described(gain: Interval, by: str) -> str:
    """Return a gain in words, such as `psnr_y +0.310 dB [+0.280, +0.350]`."""
    unit, digits = (" dB", 3) if by.startswith("psnr") else ("", 5)
    return f"{by} {gain.mean:+.{digits}f}{unit} [{gain.low:+.{digits}f}, {gain.high:+.{digits}f}]"
