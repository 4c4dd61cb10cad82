"""A model's quality on images, under a named protocol."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sisr import inference
from sisr.data.bicubic import resize
from sisr.errors import ConfigError, DataError
from sisr.metrics.luma import luma
from sisr.metrics.perceptual import Distance
from sisr.metrics.protocol import Protocol, protocol
from sisr.metrics.psnr import psnr, psnr_rgb, psnr_y
from sisr.metrics.ssim import WINDOW, ssim, ssim_rgb, ssim_y

Pixels = NDArray[np.uint8]  # (h, w, 3) RGB, or (h, w) grey
Upscaler = nn.Module | Literal["bicubic"]


@dataclass(frozen=True)
class ImageResult:
    """One image's values by metric: dB for psnr_*, at most 1 for ssim_*, and perceptual distances of images."""

    name: str
    values: dict[str, float]


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
    rule = protocol(rule) if isinstance(rule, str) else rule
    if distance and rule.luma_first:
        raise ConfigError(f"protocol {rule.name} has luma alone, and {distance.name} wants RGB: leave one of them out")
    results, evidence = [], []
    with _evaluation_mode(model):
        for image, pixels in images:
            values, found = _measure(model, image, _cut(image, pixels, scale), scale, rule, distance)
            results.append(ImageResult(image, values))
            evidence.append(found)
    if not results:
        raise DataError("no images to measure on")
    stamp = rule.stamp(scale)
    if distance is None:
        return Report(name or _name(model), stamp, results)
    together = {distance.name: distance.value(evidence)}
    return Report(name or _name(model), f"{stamp}|{distance.stamp}", results, together)


def _measure(
    model: Upscaler, name: str, pixels: Pixels, scale: int, rule: Protocol, distance: Distance | None
) -> tuple[dict[str, float], Any]:
    """Return one image's values, and what it contributes to the distance."""
    if rule.luma_first:
        return _measure_luma(model, pixels, scale), None
    sr, hr = _rgb(model, pixels, scale)
    values = {f.__name__: f(sr, hr, scale).item() for f in (psnr_y, ssim_y, psnr_rgb, ssim_rgb)}
    if distance is None:
        return values, None
    if min(hr.shape[2:]) < distance.least:
        size = f"{hr.shape[3]}x{hr.shape[2]} px"
        raise DataError(
            f"{name} is {size}: {distance.name} wants at least {distance.least} px a side; choose swd or none"
        )
    with torch.inference_mode():
        evidence = distance.evidence(sr, hr)
    return values | ({distance.name: evidence} if isinstance(evidence, float) else {}), evidence


def _rgb(model: Upscaler, pixels: Pixels, scale: int) -> tuple[Tensor, Tensor]:
    """Return sr and hr, 8-bit images (1, 3, h, w) in [0, 1]."""
    pixels = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    lr = resize(pixels, Fraction(1, scale))
    made = _to_8_bit(_generate(model, _batch(lr))).numpy() if isinstance(model, nn.Module) else resize(lr, scale)
    return _batch(made), _batch(pixels)


def _measure_luma(model: Upscaler, pixels: Pixels, scale: int) -> dict[str, float]:
    hr = pixels.astype(np.float64) if pixels.ndim == 2 else luma(_batch(pixels))[0, 0].round().numpy()
    lr = resize(hr, Fraction(1, scale))
    sr = _generate_luma(model, lr) if isinstance(model, nn.Module) else resize(lr, scale)
    made, true = (torch.from_numpy(p)[None, None] for p in (np.clip(np.floor(sr + 0.5), 0, 255), hr))
    return {"psnr_y": psnr(made, true, scale).item(), "ssim_y": ssim(made, true, scale).item()}


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


def _generate_luma(generator: nn.Module, lr: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what an RGB generator makes of luma (h, w) in 0 .. 255: of three equal channels, the mean of its three."""
    grey = torch.from_numpy(lr / 255).expand(1, 3, -1, -1)
    return 255 * _generate(generator, grey).mean(dim=1)[0].numpy()


def _generate(generator: nn.Module, lr: Tensor) -> Tensor:
    like = next(generator.parameters(), lr.float())
    return inference.upscale(generator, lr.to(like.device, like.dtype)).double().cpu()


def _to_8_bit(sr: Tensor) -> Tensor:
    return (255 * sr[0].permute(1, 2, 0)).round().clamp(0, 255).byte()


def _batch(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].double() / 255


def _cut(name: str, pixels: Pixels, scale: int) -> Pixels:
    height, width = (side // scale * scale for side in pixels.shape[:2])
    least = WINDOW + 2 * scale
    if min(height, width) < least:
        size = f"{pixels.shape[1]}x{pixels.shape[0]} px"
        raise DataError(f"{name} is {size}: too small to measure {scale}x on; it wants at least {least} px a side")
    return pixels[:height, :width].copy()


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _name(model: Upscaler) -> str:
    return type(model).__name__ if isinstance(model, nn.Module) else model
