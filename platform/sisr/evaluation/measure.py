"""A model's quality on images, under a named protocol."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sisr.data.bicubic import resize
from sisr.errors import ConfigError, DataError
from sisr.inference import tiled
from sisr.metrics import planes
from sisr.metrics.catalogue import METRICS, PSNR_Y, SCORE
from sisr.metrics.perceptual import Distance
from sisr.metrics.planes import luma
from sisr.metrics.protocol import Protocol
from sisr.metrics.score import score
from sisr.metrics.ssim import WINDOW
from sisr.recipe import Generator

Pixels = NDArray[np.uint8]  # (h, w, 3) RGB, or (h, w) grey
Upscaler = Generator | Literal["bicubic"]
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

    @property
    def mean(self) -> dict[str, float]:
        """Each metric averaged over the images, or of all of them together."""
        metrics = self.images[0].values
        means = {m: math.fsum(i.values[m] for i in self.images) / len(self.images) for m in metrics}
        return means | self.together

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts and lists; PSNR is infinite where sr equals hr."""
        images = [{"name": i.name, **i.values} for i in self.images]
        return {"model": self.model, "protocol": self.protocol, "mean": self.mean, "images": images}


def evaluate_models(
    models: Sequence[tuple[str, Upscaler]],
    images: Iterable[tuple[str, Pixels]],
    scale: int,
    rule: Protocol,
    on_image: Callable[[str, Pixels, list[Pixels]], None] = lambda name, hr, sr: None,
    metrics: Sequence[str] | None = None,
    distance: Distance | None = None,
) -> list[Measurement]:
    """Return each model's values on the same images: every lr is made once, and the models take turns on it.

    Where bicubic is one of the models, and a distance is measured, each of them has a score against it.

    Args:
        models: Names, and generators (put into evaluation mode meanwhile) on any device, or `bicubic`, MATLAB's.
        images: Names and hr images; consumed one at a time.
        scale: hr side / lr side.
        rule: The protocol.
        on_image: Gets each image's name, hr and what the models made of it, in 8 bit, as they were measured.
        metrics: Which of the protocol's to measure; None: all.
        distance: Also measured, on whole images; needs a protocol of RGB images.

    Raises:
        ConfigError: The protocol has no RGB images for the distance.
        DataError: There are no images, or one is too small to be measured.
        ValueError: A generator's output has another size than hr.
    """
    metrics = rule.metrics if metrics is None else metrics
    if distance and rule.luma_first:
        raise ConfigError(f"protocol {rule.name} has luma alone, and {distance.name} needs RGB: leave one of them out")
    results: list[list[ImageResult]] = [[] for _ in models]
    evidence: list[list[Any]] = [[] for _ in models]
    with _evaluation_mode(models):
        for count, (name, pixels) in enumerate(images):
            hr = _hr(_cut(name, pixels, scale, distance), rule)
            lr = resize(hr.astype(np.float64) if rule.luma_first else hr, Fraction(1, scale))
            made: list[tuple[Pixels, float]] = [_timed(model, lr, scale) for _, model in _turned(models, count)]
            made = _turned(made, -count)
            for found, seen, (sr, seconds) in zip(results, evidence, made, strict=True):
                values = _scores(sr, hr, scale, metrics)
                if distance:
                    with torch.inference_mode():
                        seen.append(distance.evidence(_batch(sr), _batch(hr)))
                    values |= {distance.name: seen[-1]} if isinstance(seen[-1], float) else {}
                found.append(ImageResult(name, values, seconds))
            on_image(name, hr, [sr for sr, _ in made])
    if not all(results):
        raise DataError("no images to measure on")
    stamp = rule.stamp(scale) + (f"|{distance.stamp}" if distance else "")
    measured = [
        Measurement(name, stamp, found, {distance.name: distance.value(seen)} if distance else {}, distance, seen)
        for (name, _), found, seen in zip(models, results, evidence, strict=True)
    ]
    bicubic = [found for found, (_, model) in zip(measured, models, strict=True) if not isinstance(model, nn.Module)]
    return with_scores(measured, bicubic[0]) if bicubic and distance else measured


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


def _hr(pixels: Pixels, rule: Protocol) -> Pixels:
    if rule.luma_first:
        return pixels if pixels.ndim == 2 else luma(_batch(pixels))[0, 0].round().byte().numpy()
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


def _timed(model: Upscaler, lr: NDArray[Any], scale: int) -> tuple[Pixels, float]:
    """Return sr in 8 bit, and how many seconds it took."""
    begun = time.perf_counter()
    if not isinstance(model, nn.Module):
        sr = resize(lr, scale)
    elif lr.ndim == 3:
        sr = 255 * _generate(model, _batch(lr))[0].permute(1, 2, 0).numpy()
    else:  # luma (h, w) in 0 .. 255: an RGB generator gets three equal channels, and the mean of its three counts
        sr = 255 * _generate(model, torch.from_numpy(lr / 255).expand(1, 3, -1, -1))[0].mean(dim=0).numpy()
    if sr.dtype != np.uint8:
        sr = np.clip(np.floor(sr + 0.5), 0, 255).astype(np.uint8)
    return sr, time.perf_counter() - begun


def _scores(sr: Pixels, hr: Pixels, scale: int, metrics: Sequence[str]) -> dict[str, float]:
    if hr.ndim == 3:
        made, true = _batch(sr), _batch(hr)
        return {name: planes.measure(METRICS[name], made, true, scale).item() for name in metrics}
    made, true = (torch.from_numpy(plane)[None, None].double() for plane in (sr, hr))
    return {name: planes.of_planes(METRICS[name])(made, true, scale).item() for name in metrics}


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


def _generate(generator: Generator, lr: Tensor) -> Tensor:
    like = next(generator.parameters(), lr.float())
    return tiled.upscale(generator, lr.to(like.device, like.dtype)).double().cpu()


def _batch(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].double() / 255


def _cut(name: str, pixels: Pixels, scale: int, distance: Distance | None) -> Pixels:
    height, width = (side // scale * scale for side in pixels.shape[:2])
    least = WINDOW + 2 * scale
    if min(height, width) < least:
        size = f"{pixels.shape[1]}x{pixels.shape[0]} px"
        raise DataError(f"{name} is {size}: too small to measure {scale}x on; it needs at least {least} px a side")
    if distance and min(height, width) < (needed := METRICS[distance.name].least):
        raise DataError(
            f"{name} is {width}x{height} px: {distance.name} needs at least {needed} px a side; choose swd or none"
        )
    return pixels[:height, :width].copy()
