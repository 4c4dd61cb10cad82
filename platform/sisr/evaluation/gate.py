"""What a model must show before others get it: better than bicubic and than the model in use, beyond noise."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sisr.errors import ConfigError
from sisr.evaluation.difference import BETTER, NOT_SHOWN, TOO_FEW, difference
from sisr.evaluation.measure import Measurement
from sisr.metrics.catalogue import ANY_DISTANCE, FEWEST, PSNR_Y, SCORE, Metric, metric
from sisr.metrics.perceptual import Distance
from sisr.metrics.protocol import Protocol


@dataclass(frozen=True)
class Check:
    """One demand of the gate and whether it is met."""

    name: str
    passed: bool
    text: str  # in words, with numbers


def metric_of(
    request: str | None,
    *,
    adversarial: bool,
    rule: Protocol,
    distance: Distance | None,
    further: Sequence[Distance] = (),
    missing: Sequence[str] = (),
) -> Metric:
    """Return the metric that decides.

    Args:
        request: What the user asks for; None: the score for a recipe with a judge, else PSNR.
        adversarial: Whether the recipe has a judge.
        rule: The protocol.
        distance: What is measured besides.
        further: Metrics that were asked for, and are measured, too.
        missing: In words, which of these can't be had, and why.

    Raises:
        ConfigError: It is not measured; the message lists what is.
    """
    if request is None:
        return SCORE if adversarial and distance else PSNR_Y
    found = metric(request)
    if found is ANY_DISTANCE and distance:
        return metric(distance.name)
    measured = [*rule.metrics, *([distance.name, SCORE.name] if distance else []), *(each.name for each in further)]
    if found.name not in measured:
        raise ConfigError(
            f"--by {request} is not measured under protocol {rule.name} with {distance.name if distance else 'no'} "
            f"perceptual distance{''.join(f'; {line}' for line in missing)}: choose one of {', '.join(measured)}, or "
            "another --perceptual"
        )
    return found


def reported(metrics: Mapping[str, float]) -> Check:
    """Return the check of what a run itself reported at its end: something, and all of it finite.

    Args:
        metrics: Last value of each, those of its end as `final/NAME`; runs of version 0.1.0 delivered a number that
            wasn't finite as `NAME_finite` = 0.
    """
    final = {name: value for name, value in metrics.items() if name.startswith("final/")}
    broken = [name.removesuffix("_finite") for name, value in final.items() if name.endswith("_finite") and not value]
    broken += [name for name, value in final.items() if not math.isfinite(value)]
    if not final:
        return Check("run", False, "it reports no values of its end: it has not come to it")
    if broken:
        return Check("run", False, f"it reports numbers that are not finite: {', '.join(broken)}")
    return Check("run", True, f"all {len(final)} of its final metrics are finite")


def unseen(trained_on: Sequence[str] | None, num_images: int, num_origins: int = 0) -> Check:
    """Return the check that a model is not judged on images that it has learned by heart.

    Args:
        trained_on: Which of the images that decide it was trained on, or on what they were cut from; None: what it was
            trained on is not known.
        num_images: How many decide.
        num_origins: How many images they say they were cut from.
    """
    if trained_on is None:
        return Check("images", True, "what it was trained on is not known here")
    if trained_on:
        named = ", ".join(trained_on[:3]) + (", ..." if len(trained_on) > 3 else "")
        cut = ", or on what they were cut from" if num_origins else ""
        return Check("images", False, f"it was trained on {len(trained_on)} of these {num_images} images{cut}: {named}")
    origins = f", nor on the {num_origins} that they were cut from" if num_origins else ""
    return Check("images", True, f"it was trained on none of these {num_images} images{origins}")


def judge(candidate: Measurement, rivals: Sequence[Measurement], by: Metric) -> list[Check]:
    """Return the checks of a candidate: that every number is finite, of enough images, then one against each rival.

    Args:
        candidate: What the new model reached.
        rivals: What bicubic and the model in use reached, on the same images under the same protocol.
        by: The metric that decides.
    """
    values = [(f" of {image.name}", image.values) for image in candidate.images] + [("", candidate.together)]
    numbers = {f"{name}{where}": value for where, each in values for name, value in each.items()}
    broken = [f"{name} is {value}" for name, value in numbers.items() if not math.isfinite(value)]
    if broken:
        return [Check("finite", False, f"{len(broken)} numbers are not finite: {', '.join(broken[:3])}")]
    checks = [Check("finite", True, f"all {len(numbers)} numbers are finite")]
    if len(candidate.images) < FEWEST:
        checks.append(Check("number of images", False, f"{len(candidate.images)} are {TOO_FEW}"))
    return [*checks, *(_against(candidate, rival, by) for rival in rivals)]


def _against(candidate: Measurement, rival: Measurement, by: Metric) -> Check:
    found = difference(candidate, rival, by)
    if found is None:
        return Check(rival.model, False, f"no difference in {by.name} can be worked out")
    not_shown = "not better beyond noise" if found.num_images >= FEWEST else "not shown by so few images"
    how = not_shown if found.word == NOT_SHOWN else found.word
    return Check(rival.model, found.word == BETTER, f"{how}: {by.name} {found.text()}")
