"""A model's quality on images, under a named protocol."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sisr.data.bicubic import resize
from sisr.errors import ConfigError, DataError
from sisr.inference import tiled
from sisr.metrics.luma import luma
from sisr.metrics.perceptual import Distance
from sisr.metrics.protocol import Protocol, protocol
from sisr.metrics.psnr import psnr, psnr_rgb, psnr_y
from sisr.metrics.ssim import WINDOW, ssim, ssim_rgb, ssim_y
from sisr.recipe import Generator

Pixels = NDArray[np.uint8]  # (h, w, 3) RGB, or (h, w) grey
Upscaler = Generator | Literal["bicubic"]
T = TypeVar("T")

OF_RGB = {"psnr_y": psnr_y, "ssim_y": ssim_y, "psnr_rgb": psnr_rgb, "ssim_rgb": ssim_rgb}
OF_LUMA = {"psnr_y": psnr, "ssim_y": ssim}


@dataclass(frozen=True)
class ImageResult:
    """One image's values by metric: dB for psnr_*, at most 1 for ssim_*, and perceptual distances of images."""

    name: str
    values: dict[str, float]
    seconds: float = 0.0  # that the model took for it


@dataclass(frozen=True)
class Outcome:
    """One image and what each model made of it, in 8 bit, as they were measured: (h, w, 3), or the luma (h, w)."""

    name: str
    hr: Pixels
    sr: list[Pixels]


@dataclass(frozen=True)
class Report:
    """What was measured, how, on which images."""

    model: str
    protocol: str  # the stamp
    images: list[ImageResult]
    together: dict[str, float] = field(default_factory=dict)  # what is measured on all images at once

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


def evaluate_model(
    model: Upscaler,
    images: Iterable[tuple[str, Pixels]],
    scale: int,
    rule: str | Protocol = "rgb8",
    *,
    name: str = "",
    distance: Distance | None = None,
) -> Report:
    """Return the model's values on every image and their mean.

    Args:
        model: A generator (it is put into evaluation mode meanwhile), on any device; or `bicubic`, MATLAB's.
        images: Names and hr images; consumed one at a time.
        scale: hr side / lr side.
        rule: The protocol or its name.
        name: How the report calls the model.
        distance: Also measured, on whole images; wants a protocol of RGB images.

    Raises:
        ConfigError: There is no such protocol, or it has no RGB images for the distance.
        DataError: There are no images, or one is too small to be measured.
        ValueError: The generator's output has another size than hr.
    """
    return evaluate_models([(name or _name(model), model)], images, scale, rule, distance=distance)[0]


def evaluate_models(
    models: Sequence[tuple[str, Upscaler]],
    images: Iterable[tuple[str, Pixels]],
    scale: int,
    rule: str | Protocol = "rgb8",
    on_image: Callable[[Outcome], None] = lambda _: None,
    metrics: Sequence[str] | None = None,
    distance: Distance | None = None,
) -> list[Report]:
    """Return each model's values on the same images: every lr is made once, and the models take turns on it.

    Args:
        models: Names, and models as in `evaluate_model`.
        images: As in `evaluate_model`; so are `scale` and `rule`, and what is raised.
        scale: See there.
        rule: See there.
        on_image: Gets each image and what the models made of it.
        metrics: Which of the protocol's to measure; None: all.
        distance: As in `evaluate_model`.
    """
    rule = protocol(rule) if isinstance(rule, str) else rule
    metrics = rule.metrics if metrics is None else metrics
    if distance and rule.luma_first:
        raise ConfigError(f"protocol {rule.name} has luma alone, and {distance.name} wants RGB: leave one of them out")
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
            on_image(Outcome(name, hr, [sr for sr, _ in made]))
    if not all(results):
        raise DataError("no images to measure on")
    stamp = rule.stamp(scale) + (f"|{distance.stamp}" if distance else "")
    together = [{distance.name: distance.value(seen)} if distance else {} for seen in evidence]
    names = [name for name, _ in models]
    return [Report(n, stamp, found, of_all) for n, found, of_all in zip(names, results, together, strict=True)]


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
        return {metric: OF_RGB[metric](made, true, scale).item() for metric in metrics}
    made, true = (torch.from_numpy(plane)[None, None].double() for plane in (sr, hr))
    return {metric: OF_LUMA[metric](made, true, scale).item() for metric in metrics}


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
        raise DataError(f"{name} is {size}: too small to measure {scale}x on; it wants at least {least} px a side")
    if distance and min(height, width) < distance.least:
        raise DataError(
            f"{name} is {width}x{height} px: {distance.name} wants at least {distance.least} px a side; choose swd or "
            "none"
        )
    return pixels[:height, :width].copy()


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _name(model: Upscaler) -> str:
    return type(model).__name__ if isinstance(model, nn.Module) else model
