"""What was measured of a model on some images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sisr.metrics.catalogue import PSNR_Y, SCORE
from sisr.metrics.perceptual import Distance
from sisr.metrics.score import score


@dataclass(frozen=True)
class ImageResult:
    """One image's values by metric, as `sisr.metrics.catalogue` names them: those that each image has."""

    name: str
    values: dict[str, float]
    seconds: float = 0.0  # that the model took for it


@dataclass(frozen=True)
class Measurement:
    """What was measured of one model, how, on which images."""

    model: str
    protocol: str  # the stamp
    images: list[ImageResult]
    together: dict[str, float] = field(default_factory=dict)  # what is measured on all images at once
    distance: Distance | None = None
    evidence: list[Any] = field(default_factory=list)  # of the distance, for each image

    @property
    def mean(self) -> dict[str, float]:
        """Each metric averaged over the images, or of all of them together."""
        metrics = self.images[0].values
        means = {m: math.fsum(i.values[m] for i in self.images) / len(self.images) for m in metrics}
        return means | self.together

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts and lists; an infinite PSNR (sr equals hr) becomes None, for JSON has no infinity."""
        images = [{"name": i.name, **_finite(i.values)} for i in self.images]
        return {"model": self.model, "protocol": self.protocol, "mean": _finite(self.mean), "images": images}


def with_scores(measured: Sequence[Measurement], bicubic: Measurement) -> list[Measurement]:
    """Return measurements with the score of each against bicubic, all on the same images with a distance."""
    return [replace(m, together={**m.together, SCORE.name: score_against(m, bicubic)}) for m in measured]


def score_against(ours: Measurement, theirs: Measurement) -> float:
    """Return how many doublings better than `theirs` `ours` is; see `sisr.metrics.score`."""
    assert ours.distance is not None
    (psnr, before), (distance, distance_before) = (
        [found.mean[name] for found in (ours, theirs)] for name in (PSNR_Y.name, ours.distance.name)
    )
    return score(psnr, before, distance, distance_before, ours.distance.power)


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
