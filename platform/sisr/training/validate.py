"""Validation on held-out images during training, and the sample pictures of each evaluation.

Protocol: hr is a held-out image, lr is made from it by the recipe's own degradation with fixed random numbers, sr is
clipped and rounded to 8 bits, `scale` border pixels are ignored, and the value is the mean over the images. It is
called `recipe-lr` because lr is not MATLAB's bicubic; `sisr evaluate` measures under the published protocols. Where lr
is given in pairs, it is taken as it is, and the protocol says `given-lr`. The perceptual distance and the health
numbers are of the whole image.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from sisr.data import bicubic
from sisr.data.draws import Draws
from sisr.disk import atomic
from sisr.metrics import perceptual
from sisr.metrics.catalogue import ALWAYS, PSNR_Y, SCORE
from sisr.metrics.perceptual import Distance
from sisr.metrics.planes import measure
from sisr.metrics.score import score
from sisr.pictures.contact_sheet import CELL, COLUMNS, HEADER
from sisr.recipe import Recipe
from sisr.training.health import Thumbnails, of_image, of_images, thumbnails
from sisr.training.session import Session, computed_once, gather

PROTOCOL = "Y|crop=scale|{lr}|sr-u8|mean-of-images"
SEED = 20_160_830  # of the validation's own random numbers, the same for every run
KEPT_BYTES = 256 << 20  # of prepared examples on a worker's device; what is beyond is prepared anew each time
SAMPLED = 256  # images whose patches enter a distance between sets of patches, which are kept until all are measured


@dataclass(frozen=True)
class Example:
    """One held-out image: lr (1, 3, h, w), its bicubic upscaling and hr (1, 3, scale * h, scale * w), in [0, 1]."""

    lr: Tensor
    bicubic: Tensor
    hr: Tensor


@dataclass(frozen=True)
class Measured:
    """What one image contributes to a validation; plain values that workers exchange."""

    scores: dict[str, float]
    health: dict[str, float]
    evidence: Any  # of the perceptual distance
    further: dict[str, Any]  # evidence of further metrics
    thumbnails: Thumbnails


@dataclass(frozen=True)
class Evaluation:
    """The result of a validation; names without a prefix."""

    metrics: dict[str, float]
    health: dict[str, float]


class Validation:
    """The held-out images of a run, ready to be measured again and again."""

    def __init__(
        self,
        images: Sequence[np.ndarray],
        recipe: Recipe,
        session: Session,
        dtype: torch.dtype,
        distance: str = "auto",
        least_side: int | None = None,
        given_lr: Callable[[int], np.ndarray] | None = None,
        metrics: str = "",
        kept_bytes: int = KEPT_BYTES,
        built: dict[str, Distance] | None = None,
    ) -> None:
        """Measure bicubic. Each worker reads and holds its part of the images only, and not more than `kept_bytes`.

        Args:
            images: uint8 (h, w, 3) each, sides multiples of the scale; asked for one at a time.
            recipe: Its degradation makes lr, where none is given.
            session: Workers divide the images among them.
            dtype: Of the generator.
            distance: See `sisr.metrics.catalogue.PERCEPTUAL_MEANING`; `auto` takes what all workers have.
            least_side: px, of all images; None: they are looked at.
            given_lr: Returns the lr, uint8 (h / scale, w / scale, 3), that is given with an image of this number.
            metrics: Further ones, such as `dists,niqe`; those are measured that all workers have.
            kept_bytes: Of prepared examples.
            built: Distances by what they are asked for by, which several validations share; new ones are put there.

        Raises:
            ConfigError: The distance that was asked for can't be had.
        """
        self._images, self._recipe, self._dtype, self._given_lr = images, recipe, dtype, given_lr
        self._session, self._scale = session, recipe.generator.tiling.scale
        least_side = least_side or min(min(image.shape[:2]) for image in images)
        built = {} if built is None else built
        self._distance = _common_distance(distance, least_side, session, built)
        self._further = _common_further(metrics, least_side, session, built)
        # The first so many of the shuffled images enter the distance.
        self._sampled = SAMPLED if self._distance and self._distance.name == "swd" else len(images)
        self._kept: dict[int, Example] = {}
        self._kept_bytes, self._most_bytes = 0, kept_bytes
        self.baseline: dict[str, float] = {}
        with torch.inference_mode():
            self.baseline = self._together([self._measured(e.bicubic, i, e) for i, e in self._mine()]).metrics

    @property
    def protocol(self) -> str:
        """How everything is measured, in one line."""
        stamp = PROTOCOL.format(lr="given-lr" if self._given_lr else "recipe-lr")
        further = "".join(f"|{each.stamp}" for each in self._further)
        if self._distance is None:
            return stamp + further
        sampled = f"-of-{self._sampled}" if self._sampled < len(self._images) else ""
        return f"{stamp}|{self._distance.stamp}{sampled}{further}"

    def __call__(self, generator: nn.Module) -> Evaluation:
        """Return a generator's metrics by the names in `sisr.metrics.catalogue`, and its health.

        Called by all workers at the same step; the result does not depend on how many they are.
        """
        with torch.inference_mode():
            return self._together([self._measured(generator(e.lr), i, e) for i, e in self._mine()])

    @torch.inference_mode()
    def grid(self, generator: nn.Module, rows: int) -> Image.Image:
        """Return a picture with one row per image: lr enlarged by repetition, bicubic, sr and hr, unretouched.

        The rows are the first held-out images of a shuffle, the same in each picture: random, not chosen.
        """
        chosen = [self._example(i) for i in range(min(rows, len(self._images)))]
        lines = [_row(e, generator(e.lr), self._scale) for e in chosen]
        width, height = (max(cell.size[axis] for line in lines for cell in line) for axis in (0, 1))
        sheet = Image.new("RGB", (len(COLUMNS) * width, HEADER + len(lines) * height), "white")
        pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
        for column, title in enumerate(COLUMNS):
            pen.text((column * width + 3, 1), title, fill="black", font=font)
            for row, line in enumerate(lines):
                sheet.paste(line[column], (column * width, HEADER + row * height))
        return sheet

    def _mine(self) -> Iterator[tuple[int, Example]]:
        """Yield number and example of each image of this worker."""
        return ((i, self._example(i)) for i in range(self._session.rank, len(self._images), self._session.world))

    @torch.inference_mode()
    def _example(self, index: int) -> Example:
        if index in self._kept:
            return self._kept[index]
        hr = self._floats(self._images[index])
        if self._given_lr:
            lr = self._floats(self._given_lr(index))
        else:
            lr = self._recipe.degrade(hr, Draws(SEED, 0, index, 1, self._session.device)).clamp(0, 1)
        example = Example(lr, bicubic.upscale(lr, self._scale).clamp(0, 1), hr)
        size = sum(tensor.nbytes for tensor in (example.lr, example.bicubic, example.hr))
        if self._kept_bytes + size <= self._most_bytes:
            self._kept[index] = example
            self._kept_bytes += size
        return example

    def _floats(self, image: np.ndarray) -> Tensor:
        """Return an image, uint8 (h, w, 3), as (1, 3, h, w) in [0, 1] on the device."""
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self._session.device)
        return pixels.permute(2, 0, 1)[None].to(self._dtype) / 255

    def _measured(self, sr: Tensor, index: int, example: Example) -> Measured:
        sr, bicubic, hr = (_rounded(image) for image in (sr, example.bicubic, example.hr))
        return Measured(
            {metric.name: measure(metric, sr, hr, self._scale).item() for metric in ALWAYS},
            of_image(sr, bicubic, hr, self._scale),
            self._distance.evidence(sr, hr) if self._distance and index < self._sampled else None,
            {each.name: each.evidence(sr, hr) for each in self._further if index < SAMPLED},
            thumbnails(sr, bicubic),
        )

    def _together(self, mine: list[Measured]) -> Evaluation:
        """Return what all workers' images together amount to."""
        parts = gather(mine, self._session)
        # Back in the images' own order, so that nothing depends on the number of workers.
        everyone = [parts[i % len(parts)][i // len(parts)] for i in range(len(self._images))]
        return computed_once(lambda: self._summed_up(everyone), self._session)

    def _summed_up(self, everyone: list[Measured]) -> Evaluation:
        metrics = _mean([m.scores for m in everyone])
        if self._distance:
            name = self._distance.name
            metrics[name] = self._distance.value([m.evidence for m in everyone[: self._sampled]])
            if self.baseline:
                pairs = metrics[PSNR_Y.name], self.baseline[PSNR_Y.name], metrics[name], self.baseline[name]
                metrics[SCORE.name] = score(*pairs, self._distance.power)
        seen = [m.further for m in everyone if m.further]
        metrics |= {each.name: each.value([further[each.name] for further in seen]) for each in self._further}
        return Evaluation(metrics, _mean([m.health for m in everyone]) | of_images([m.thumbnails for m in everyone]))


def _common_distance(choice: str, least: int, session: Session, built: dict[str, Distance]) -> Distance | None:
    """Return the best distance that every worker has."""
    offers = gather(perceptual.offered(choice, least), session)
    common = [name for name in offers[0] if all(name in offer for offer in offers)]
    if common and common[0] not in built:
        built[common[0]] = perceptual.build(common[0], session.device)
    return built[common[0]] if common else None


def _common_further(request: str, least: int, session: Session, built: dict[str, Distance]) -> list[Distance]:
    """Return the further metrics that every worker has."""
    offers = gather(perceptual.further(request, least)[0], session)
    common = [name for name in offers[0] if all(name in offer for offer in offers)]
    new, _ = perceptual.build_further(",".join(name for name in common if name not in built), session.device)
    built |= {each.name: each for each in new}
    return [built[name] for name in common if name in built]


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture as PNG."""
    with atomic.file(path) as unfinished:
        picture.save(unfinished, format="PNG")


def _rounded(image: Tensor) -> Tensor:
    return (image.clamp(0, 1) * 255).round() / 255


def _mean(each: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([values[name] for values in each])) for name in each[0]}


def _row(example: Example, sr: Tensor, scale: int) -> list[Image.Image]:
    enlarged = example.lr.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    return [_cell(image) for image in (enlarged, example.bicubic, sr, example.hr)]


def _cell(image: Tensor) -> Image.Image:
    height, width = image.shape[2:]
    top, left = max(0, (height - CELL) // 2), max(0, (width - CELL) // 2)
    cut = image[0, :, top : top + CELL, left : left + CELL].clamp(0, 1).float()
    return Image.fromarray((cut * 255).round().byte().permute(1, 2, 0).cpu().numpy())
