"""A model's quality on images, under a named protocol."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sisr.data.bicubic import resize
from sisr.errors import ConfigError, DataError
from sisr.evaluation.finished import Finished
from sisr.evaluation.judged import Judged, Pixels, batch, judged_by
from sisr.evaluation.originals import Original as Original
from sisr.evaluation.originals import cut, hr_of, lr_of
from sisr.evaluation.side_by_side import in_order
from sisr.inference import tiled
from sisr.metrics.catalogue import PSNR_Y, SCORE
from sisr.metrics.perceptual import Distance
from sisr.metrics.protocol import GIVEN, UNKNOWN, Protocol
from sisr.metrics.score import score
from sisr.recipe import Generator

Upscaler = Generator | Literal["bicubic"] | Finished
T = TypeVar("T")


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
    further: dict[str, tuple[Distance, list[Any]]] = field(default_factory=dict)  # by name, with their evidence

    @property
    def mean(self) -> dict[str, float]:
        """Each metric averaged over the images, or of all of them together."""
        metrics = [name for name in self.images[0].values if all(name in image.values for image in self.images)]
        means = {m: math.fsum(i.values[m] for i in self.images) / len(self.images) for m in metrics}
        return means | self.together

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts and lists; PSNR is infinite where sr equals hr."""
        images = [{"name": i.name, **i.values} for i in self.images]
        return {"model": self.model, "protocol": self.protocol, "mean": self.mean, "images": images}


def evaluate_models(
    models: Sequence[tuple[str, Upscaler]],
    images: Iterable[Original],
    scale: int,
    rule: Protocol,
    on_image: Callable[[str, Pixels, list[Pixels], Pixels], None] = lambda name, hr, sr, lr: None,
    metrics: Sequence[str] | None = None,
    distance: Distance | None = None,
    at_once: int = 1,
    further: Sequence[Distance] = (),
) -> list[Measurement]:
    """Return each model's values on the same images: every lr is made once, and the models take turns on it.

    Where bicubic is one of the models, and a distance is measured, each of them has a score against it.

    Args:
        models: Names, and generators (put into evaluation mode meanwhile) on any device, `bicubic`, MATLAB's, or what
            another program has made.
        images: All with lr, or all without; consumed one at a time.
        scale: hr side / lr side.
        rule: The protocol.
        on_image: Gets each image's name, hr, what the models made, and of which lr, in 8 bit, as they were measured.
        metrics: Which of the protocol's to measure; None: all.
        distance: Also measured, on whole images; needs a protocol of RGB images.
        at_once: Images measured at the same time, each by one thread; with more than one, the models' times are not
            theirs alone.
        further: Also measured on whole images, where all of them are large enough.

    Raises:
        ConfigError: The protocol has no RGB images for the distance.
        DataError: There are no images, or one is too small to be measured, or lr or sr of another size.
        ValueError: A generator's output has another size than hr.
    """
    metrics = rule.metrics if metrics is None else metrics
    if distance and rule.luma_first:
        raise ConfigError(f"protocol {rule.name} has luma alone, and {distance.name} needs RGB: leave one of them out")
    results: list[list[ImageResult]] = [[] for _ in models]
    evidence: list[list[Any]] = [[] for _ in models]
    seen_by: list[list[dict[str, Any]]] = [[] for _ in models]

    def judge(count: int, original: Original) -> tuple[Pixels, list[Judged], Pixels]:
        hr = hr_of(cut(original, scale, distance), rule)
        lr = lr_of(original, hr, scale, rule)
        made = [_timed(model, original.name, lr, hr, rule, at_once) for _, model in _turned(models, count)]
        by = (scale, metrics, distance, further)
        judged = [judged_by(sr, hr, seconds, *by) for sr, seconds in _turned(made, -count)]
        return hr, judged, np.rint(lr.clip(0, 255)).astype(np.uint8)

    origin = ""
    with _evaluation_mode(models):
        for original, (hr, judged, lr) in in_order(images, judge, at_once):
            origin = origin if original.lr is None else GIVEN
            for found, seen, all_seen, each in zip(results, evidence, seen_by, judged, strict=True):
                found.append(ImageResult(original.name, each.values, each.seconds))
                seen.append(each.evidence)
                all_seen.append(each.further)
            on_image(original.name, hr, [each.sr for each in judged], lr)
    if not all(results):
        raise DataError("no images to measure on")
    measured = []
    for (name, model), found, seen, all_seen in zip(models, results, evidence, seen_by, strict=True):
        stamp = rule.stamp(scale, UNKNOWN if isinstance(model, Finished) else origin)
        measured.append(_with_further(_measurement(name, stamp, found, seen, distance), further, all_seen))
    bicubic = [found for found, (_, model) in zip(measured, models, strict=True) if model == "bicubic"]
    return with_scores(measured, bicubic[0]) if bicubic and distance else measured


def _measurement(
    name: str, stamp: str, found: list[ImageResult], evidence: list[Any], distance: Distance | None
) -> Measurement:
    """Return what one model's images say together; `evidence` is what the distance has seen of each."""
    if distance is None:
        return Measurement(name, stamp, found, {}, None, evidence)
    together = {distance.name: distance.value(evidence)}
    return Measurement(name, f"{stamp}|{distance.stamp}", found, together, distance, evidence)


def _with_further(measured: Measurement, further: Sequence[Distance], seen: Sequence[dict[str, Any]]) -> Measurement:
    """Return a measurement with the further metrics that could be measured on every image."""
    for each in further:
        if all(each.name in image for image in seen):
            evidence = [image[each.name] for image in seen]
            measured = replace(
                measured,
                protocol=f"{measured.protocol}|{each.stamp}",
                together={**measured.together, each.name: each.value(evidence)},
                further={**measured.further, each.name: (each, evidence)},
            )
    return measured


def with_scores(measured: Sequence[Measurement], bicubic: Measurement) -> list[Measurement]:
    """Return measurements with the score of each against bicubic, all on the same images with a distance."""
    return [replace(m, together={**m.together, SCORE.name: score_against(m, bicubic)}) for m in measured]


def score_against(ours: Measurement, theirs: Measurement) -> float:
    """Return how many doublings better than `theirs` `ours` is; see `sisr.metrics.score`."""
    assert ours.distance is not None
    psnr, distance = PSNR_Y.name, ours.distance.name
    return score(ours.mean[psnr], theirs.mean[psnr], ours.mean[distance], theirs.mean[distance], ours.distance.power)


def _turned(items: Sequence[T], count: int) -> list[T]:
    """Return the items with another one first each time, so that none is always measured with cold caches."""
    start = count % len(items)
    return [*items[start:], *items[:start]]


def _timed(
    model: Upscaler, name: str, lr: NDArray[Any], hr: Pixels, rule: Protocol, sharing: int
) -> tuple[Pixels, float]:
    """Return sr in 8 bit, and how many seconds it took; memory is shared by so many."""
    begun = time.perf_counter()
    if isinstance(model, Finished):
        sr: NDArray[Any] = hr_of(model.sr(name, *hr.shape[:2]), rule)
    elif not isinstance(model, nn.Module):
        sr = resize(lr, hr.shape[0] // lr.shape[0])
    elif lr.ndim == 3:
        sr = _rounded(_generate(model, batch(lr), sharing)[0]).permute(1, 2, 0).contiguous().numpy()
    else:  # luma (h, w) in 0 .. 255: an RGB generator gets three equal channels, and the mean of its three counts
        equal = torch.from_numpy(lr / 255).expand(1, 3, -1, -1)
        sr = _rounded(_generate(model, equal, sharing)[0].mean(dim=0)).numpy()
    if sr.dtype != np.uint8:
        sr = np.clip(np.floor(sr + 0.5), 0, 255).astype(np.uint8)
    return sr, time.perf_counter() - begun


@torch.inference_mode()
def _rounded(sr: Tensor) -> Tensor:
    """Return sr in 8 bit; float64 is used up, for pictures are large."""
    return sr.mul_(255).add_(0.5).floor_().clamp_(0, 255).byte()


@contextmanager
def _evaluation_mode(models: Sequence[tuple[str, Upscaler]]) -> Iterator[None]:
    networks = [model for _, model in models if isinstance(model, nn.Module)]
    training = [module for network in networks for module in network.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _generate(generator: Generator, lr: Tensor, sharing: int) -> Tensor:
    like, memory = next(generator.parameters(), lr.float()), tiled.memory_budget(generator) / sharing
    return tiled.upscale(generator, lr.to(like.device, like.dtype), memory=memory).double().cpu()
