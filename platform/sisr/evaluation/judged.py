"""What one model made of one image, and how good that is."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sisr.metrics import planes
from sisr.metrics.catalogue import METRICS
from sisr.metrics.perceptual import Distance

Pixels = NDArray[np.uint8]  # (h, w, 3) RGB, or (h, w) grey


@dataclass(frozen=True)
class Judged:
    """What one model made of one image."""

    sr: Pixels
    seconds: float  # that it took
    values: dict[str, float]  # by metric
    evidence: Any  # of the distance, where one is measured
    further: dict[str, Any] = field(default_factory=dict)  # evidence of further metrics


def judged_by(
    sr: Pixels,
    hr: Pixels,
    seconds: float,
    scale: int,
    metrics: Sequence[str],
    distance: Distance | None,
    further: Sequence[Distance] = (),
) -> Judged:
    """Return sr, which took so many seconds, with its values against hr."""
    if hr.ndim == 2:
        made, true = (torch.from_numpy(plane)[None, None].double() for plane in (sr, hr))
        return Judged(sr, seconds, {n: planes.of_planes(METRICS[n])(made, true, scale).item() for n in metrics}, None)
    made, true, evidence = batch(sr), batch(hr), None
    found = planes.measure_all([METRICS[name] for name in metrics], made, true, scale)
    values = {name: value.item() for name, value in found.items()}
    if distance:
        with torch.inference_mode():
            evidence = distance.evidence(made, true)
        values |= {distance.name: evidence} if isinstance(evidence, float) else {}
    with torch.inference_mode():
        seen = {
            each.name: each.evidence(made, true) for each in further if min(hr.shape[:2]) >= METRICS[each.name].least
        }
    values |= {name: value for name, value in seen.items() if isinstance(value, float)}
    return Judged(sr, seconds, values, evidence, seen)


def batch(pixels: Pixels) -> Tensor:
    """Return an RGB image as (1, 3, h, w), float64 in [0, 1]."""
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].double() / 255
