"""A model's quality on images, under a named protocol."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sisr.data.bicubic import resize
from sisr.errors import ConfigError, DataError
from sisr.evaluation.measurement import ImageResult, Measurement, with_scores
from sisr.inference import tiled
from sisr.metrics import planes
from sisr.metrics.catalogue import METRICS
from sisr.metrics.perceptual import Distance
from sisr.metrics.planes import luma
from sisr.metrics.protocol import Protocol
from sisr.metrics.ssim import WINDOW
from sisr.recipe import Generator

Pixels = NDArray[np.uint8]  # (h, w, 3) RGB, or (h, w) grey
Upscaler = Generator | Literal["bicubic"]
T = TypeVar("T")


@dataclass(frozen=True)
class SideBySide:
    """One image and what each model made of it, in 8 bit, as they were measured: (h, w, 3), or the luma (h, w)."""

    name: str
    hr: Pixels
    sr: list[Pixels]


def evaluate_models(
    models: Sequence[tuple[str, Upscaler]],
    images: Iterable[tuple[str, Pixels]],
    scale: int,
    rule: Protocol,
    on_image: Callable[[SideBySide], None] = lambda _: None,
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
        on_image: Gets each image and what the models made of it.
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
    with ExitStack() as stack:
        for _, model in models:
            stack.enter_context(_evaluation_mode(model))
        for count, (name, pixels) in enumerate(images):
            hr = _hr(_cut(name, pixels, scale, distance), rule)
            lr = resize(hr.astype(np.float64) if rule.luma_first else hr, Fraction(1, scale))
            made: list[tuple[Pixels, float]] = [_timed(model, lr, scale) for _, model in _turned(models, count)]
            made = _turned(made, -count)
            for found, seen, (sr, seconds) in zip(results, evidence, made, strict=True):
                values = _scores(sr, hr, scale, metrics)
                if distance:
                    seen.append(_evidence(distance, sr, hr))
                    values |= {distance.name: seen[-1]} if isinstance(seen[-1], float) else {}
                found.append(ImageResult(name, values, seconds))
            on_image(SideBySide(name, hr, [sr for sr, _ in made]))
    if not all(results):
        raise DataError("no images to measure on")
    stamp = rule.stamp(scale) + (f"|{distance.stamp}" if distance else "")
    measured = [
        Measurement(name, stamp, found, {distance.name: distance.value(seen)} if distance else {}, distance, seen)
        for (name, _), found, seen in zip(models, results, evidence, strict=True)
    ]
    bicubic = [found for found, (_, model) in zip(measured, models, strict=True) if not isinstance(model, nn.Module)]
    return with_scores(measured, bicubic[0]) if bicubic and distance else measured


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
        sr = _to_8_bit(_generate(model, _batch(lr))).numpy()
    else:
        sr = _generate_luma(model, lr)
    if sr.dtype != np.uint8:
        sr = np.clip(np.floor(sr + 0.5), 0, 255).astype(np.uint8)
    return sr, time.perf_counter() - begun


def _scores(sr: Pixels, hr: Pixels, scale: int, metrics: Sequence[str]) -> dict[str, float]:
    if hr.ndim == 3:
        made, true = _batch(sr), _batch(hr)
        return {name: planes.measure(METRICS[name], made, true, scale).item() for name in metrics}
    made, true = (torch.from_numpy(plane)[None, None].double() for plane in (sr, hr))
    return {name: planes.of_planes(METRICS[name])(made, true, scale).item() for name in metrics}


def _evidence(distance: Distance, sr: Pixels, hr: Pixels) -> Any:
    with torch.inference_mode():
        return distance.evidence(_batch(sr), _batch(hr))


@contextmanager
def _evaluation_mode(model: Upscaler) -> Iterator[None]:
    training = [m for m in model.modules() if m.training] if isinstance(model, nn.Module) else []
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _generate_luma(generator: Generator, lr: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what an RGB generator makes of luma (h, w) in 0 .. 255: of three equal channels, the mean of its three."""
    grey = torch.from_numpy(lr / 255).expand(1, 3, -1, -1)
    return 255 * _generate(generator, grey).mean(dim=1)[0].numpy()


def _generate(generator: Generator, lr: Tensor) -> Tensor:
    like = next(generator.parameters(), lr.float())
    return tiled.upscale(generator, lr.to(like.device, like.dtype)).double().cpu()


def _to_8_bit(sr: Tensor) -> Tensor:
    return (255 * sr[0].permute(1, 2, 0)).round().clamp(0, 255).byte()


def _batch(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].double() / 255


def _cut(name: str, pixels: Pixels, scale: int, distance: Distance | None) -> Pixels:
    height, width = (side // scale * scale for side in pixels.shape[:2])
    least = WINDOW + 2 * scale
    if min(height, width) < least:
        size = f"{pixels.shape[1]}x{pixels.shape[0]} px"
        raise DataError(f"{name} is {size}: too small to measure {scale}x on; it needs at least {least} px a side")
    needed = METRICS[distance.name].least if distance else 0
    if distance and min(height, width) < needed:
        raise DataError(
            f"{name} is {width}x{height} px: {distance.name} needs at least {needed} px a side; choose swd or none"
        )
    return pixels[:height, :width].copy()
