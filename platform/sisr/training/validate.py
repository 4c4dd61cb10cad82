"""Validation on held-out images during training, and the sample pictures of each evaluation.

Protocol: hr is a held-out image, lr is made from it by the recipe's own degradation with fixed random numbers, sr is
clipped and rounded to 8 bits, `scale` border pixels are ignored, and the value is the mean over the images. It is
called `recipe-lr` because lr is not MATLAB's bicubic; `sisr evaluate` measures under the published protocols.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from sisr.data import bicubic
from sisr.draws import Draws
from sisr.metrics.psnr import psnr_y
from sisr.metrics.ssim import ssim_y
from sisr.recipe import Recipe
from sisr.sheet import CELL, COLUMNS, HEADER
from sisr.training.session import Session

PROTOCOL = "Y|crop=scale|recipe-lr|sr-u8|mean-of-images"
SEED = 20_160_830  # of the validation's own random numbers, the same for every run


@dataclass(frozen=True)
class Example:
    """One held-out image: lr (1, 3, h, w), its bicubic upscaling and hr (1, 3, scale * h, scale * w), in [0, 1]."""

    lr: Tensor
    bicubic: Tensor
    hr: Tensor


class Validation:
    """The held-out images of a run, ready to be measured again and again."""

    def __init__(self, images: list[np.ndarray], recipe: Recipe, session: Session, dtype: torch.dtype) -> None:
        """Degrade the images once.

        Args:
            images: uint8 (h, w, 3) each, sides multiples of the scale.
            recipe: Its degradation makes lr.
            session: Workers share the images.
            dtype: Of the generator.
        """
        self._session, self._scale = session, recipe.scale
        self._examples = [self._degraded(i, image, recipe, dtype) for i, image in enumerate(images)]
        self.baseline = self._mean([_scores(e.bicubic, e.hr, self._scale) for e in self._mine()])

    def __call__(self, generator: nn.Module) -> dict[str, float]:
        """Return `val/psnr_y` (dB) and `val/ssim_y` of a generator; called by all workers at the same step."""
        with torch.inference_mode():
            scores = [_scores(generator(e.lr), e.hr, self._scale) for e in self._mine()]
        return {f"val/{name}": value for name, value in self._mean(scores).items()}

    @torch.inference_mode()
    def grid(self, generator: nn.Module, rows: int) -> Image.Image:
        """Return a picture with one row per image: lr enlarged by repetition, bicubic, sr and hr, unretouched.

        The rows are the first held-out images of a shuffle, the same in each picture: random, not chosen.
        """
        chosen = self._examples[:rows]
        lines = [_row(e, generator(e.lr), self._scale) for e in chosen]
        width, height = (max(cell.size[axis] for line in lines for cell in line) for axis in (0, 1))
        sheet = Image.new("RGB", (len(COLUMNS) * width, HEADER + len(lines) * height), "white")
        pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
        for column, title in enumerate(COLUMNS):
            pen.text((column * width + 3, 1), title, fill="black", font=font)
            for row, line in enumerate(lines):
                sheet.paste(line[column], (column * width, HEADER + row * height))
        return sheet

    def _mine(self) -> list[Example]:
        return self._examples[self._session.rank :: self._session.world]

    def _degraded(self, index: int, image: np.ndarray, recipe: Recipe, dtype: torch.dtype) -> Example:
        device = self._session.device
        hr = torch.from_numpy(np.ascontiguousarray(image)).to(device).permute(2, 0, 1)[None].to(dtype) / 255
        lr = recipe.degrade(hr, Draws(SEED, 0, index, 1, device)).clamp(0, 1)
        return Example(lr, bicubic.upscale(lr, recipe.scale).clamp(0, 1), hr)

    def _mean(self, scores: list[dict[str, float]]) -> dict[str, float]:
        everyone = scores
        if self._session.world > 1:
            shares: list[list[dict[str, float]]] = [[] for _ in range(self._session.world)]
            dist.all_gather_object(shares, scores)
            # Back in the images' own order, so that the mean does not depend on the number of workers.
            everyone = [shares[i % len(shares)][i // len(shares)] for i in range(len(self._examples))]
        return {name: float(np.mean([s[name] for s in everyone])) for name in everyone[0]}


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture as PNG, replacing an older one of the same name atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}")
    picture.save(unfinished, format="PNG")
    unfinished.replace(path)


def _scores(sr: Tensor, hr: Tensor, border: int) -> dict[str, float]:
    rounded = (sr.clamp(0, 1) * 255).round() / 255
    return {"psnr_y": psnr_y(rounded, hr, border).item(), "ssim_y": ssim_y(rounded, hr, border).item()}


def _row(example: Example, sr: Tensor, scale: int) -> list[Image.Image]:
    enlarged = example.lr.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    return [_cell(image) for image in (enlarged, example.bicubic, sr, example.hr)]


def _cell(image: Tensor) -> Image.Image:
    height, width = image.shape[2:]
    top, left = max(0, (height - CELL) // 2), max(0, (width - CELL) // 2)
    cut = image[0, :, top : top + CELL, left : left + CELL].clamp(0, 1).float()
    return Image.fromarray((cut * 255).round().byte().permute(1, 2, 0).cpu().numpy())
