"""The demo's experiment: its images, its runs and its sweep, and the pictures that it ends with.

A small network learns photographs by pixels, then against a judge whose settings were searched. With its settings
all of it takes a few minutes on two CPU cores. The images are scikit-image's, divided by picture: a model learns of
ten, the search is judged by a cat and a cup, and what is reported at the end is of one that nothing has looked at.

Trials are as long as the run that follows, with its seed and its threads: a run with the settings of a trial repeats
it bit by bit. A GAN gets better and worse in turns, so the run ends with the step at which its trial was best.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sisr import recipes
from sisr.data.bicubic import resize
from sisr.data.images import decode
from sisr.data.sources.demo import open_demo
from sisr.disk import atomic
from sisr.driver.run.first_weights import FirstWeights
from sisr.driver.run.order import Order
from sisr.driver.sweep.planning import plan_of
from sisr.evaluation.difference import difference
from sisr.evaluation.images import CUT_FROM
from sisr.evaluation.ranking import Ranked
from sisr.inference.tiled import upscale
from sisr.metrics.catalogue import SCORE
from sisr.models.model import Model
from sisr.pictures.labelled import labelled
from sisr.sweep.plan import Plan
from sisr.sweep.space.space import SearchSpace
from sisr.sweep.state import Sweep, Trial
from sisr.training.run import Options

RECIPE = "finetune"
PIXELS, SWEEP, GAN, CROPS = "demo-pixels", "demo-sweep", "demo", "demo-crops"  # folders in that of runs
OWN = "demo-defaults"  # the run with the recipe's own settings instead of those found
VALIDATION, TEST = ("chelsea.png", "coffee.png"), ("astronaut.png",)  # a cat alone is a poor judge of other pictures
CROP = 128  # px, side of a held-out crop: 18 for validation, 16 for the comparison
PHOTO, PICTURE = "astronaut.png", "samples.png"

NETWORK = {"network": "Compact", "network_options": {"num_feat": 48, "num_conv": 8}, "perceptual": "none"}
BY_PIXELS = {**NETWORK, "judge": "none", "batch_size": 8, "hr_crop": 96, "learning_rate": 1e-3}
BY_JUDGE = {**NETWORK, "judge": "unet", "discriminator_features": 16, "batch_size": 8, "hr_crop": 64}
BY_JUDGE |= {"judge_warmup_steps": 20, "ramp_steps": 20}  # a judge of whole images leaves a grid after so few steps
SPACE = (
    "learning_rate=loguniform(5e-5, 2e-4)",
    "discriminator_learning_rate=loguniform(1e-4, 2e-3)",
    "adversarial_weight=loguniform(0.05, 0.25)",
    "pixel_weight=",
)
DISTANCE = "swd"  # needs neither weights nor a network
OPTIONS: dict[str, Any] = {"perceptual": DISTANCE, "sample_rows": 1}
# Places that the last picture shows, of a photograph: row and column of the upper left corner.
SHOWN = (("astronaut.png", 30, 176), ("astronaut.png", 200, 350), ("astronaut.png", 390, 230))
SHOWN_SIDE, ENLARGED = 96, 2  # px, and by how much each of them is repeated


@dataclass(frozen=True)
class Lengths:
    """How long each part of the demo is."""

    steps: int  # by pixels
    trials: int
    trial_steps: int

    @property
    def rung(self) -> int:
        """The step at which trials are compared first; all of a trial is three times as long."""
        return max(1, self.trial_steps // 3)


@dataclass(frozen=True)
class Found:
    """What a search found: how, and how far, the training against a judge goes on."""

    settings: dict[str, Any]
    steps: int

    @property
    def own(self) -> dict[str, Any]:
        """The recipe's own values of the same settings."""
        defaults = recipes.load(RECIPE).Config().model_dump()
        return {name: defaults[name] for name in self.settings}


def write_crops(runs: Path) -> tuple[Path, Path]:
    """Cut the held-out photographs into crops; return the folder for validation and that for the comparison."""
    photos = {file.name: file.path for file in open_demo().held_out}
    folders = runs / CROPS / "validation", runs / CROPS / "test"
    for folder, names in zip(folders, (VALIDATION, TEST), strict=True):
        for name in names:
            pixels, text = decode(photos[name]), PngInfo()
            text.add_text(CUT_FROM, hashlib.sha256(photos[name].read_bytes()).hexdigest())  # by which the gate knows it
            for row in range(0, pixels.shape[0] - CROP + 1, CROP):
                for column in range(0, pixels.shape[1] - CROP + 1, CROP):
                    path = folder / f"{Path(name).stem}_{row:03d}_{column:03d}.png"
                    if not path.exists():
                        _save(pixels[row : row + CROP, column : column + CROP], path, text)
    return folders


def pixel_order(lengths: Lengths, validation: Path, runs: Path) -> Order:
    """Return the order of the run that lowers the error of each pixel."""
    return Order(
        recipe=RECIPE,
        values={**BY_PIXELS, "steps": lengths.steps},
        options=Options(evaluate_every=max(1, lengths.steps // 3), **OPTIONS),
        validation=str(validation),
        name=PIXELS,
        runs=runs,
    )


def search_plan(lengths: Lengths, validation: Path, runs: Path) -> tuple[Plan, SearchSpace]:
    """Return the plan of the search for the settings of the phase with a judge, and its space."""
    return plan_of(
        RECIPE,
        name=SWEEP,
        validation=str(validation),
        space=SPACE,
        settings=[f"{name}={_written(value)}" for name, value in BY_JUDGE.items()],
        changes={"trials": lengths.trials, "steps": 3 * lengths.rung, "search": "random"},
        scheduler_options={"rungs": (lengths.rung,)},
        options={**OPTIONS, "threads": 1},
        runs=runs,
        first=FirstWeights(generator=PIXELS),
    )


def found_by(sweep: Sweep, best: Trial) -> Found:
    """Return the settings of the best trial, and the step of its best evaluation."""
    steps, _ = max((row for row in best.curve if row[0] > 0), key=lambda row: sweep.rank_score(row[1]))
    return Found(best.params, steps)


def gan_order(
    name: str, settings: Mapping[str, Any], steps: int, lengths: Lengths, validation: Path, runs: Path
) -> Order:
    """Return the order of a run that goes on from the first one, against a judge, as a trial with these settings."""
    return Order(
        recipe=RECIPE,
        values={**BY_JUDGE, **settings, "steps": steps},
        options=Options(evaluate_every=lengths.rung, threads=1, **OPTIONS),
        validation=str(validation),
        name=name,
        runs=runs,
        first=FirstWeights(generator=PIXELS),
    )


def what_the_search_gained(found: Found, rows: Sequence[Ranked]) -> str:
    """Return in one line what the settings found are worth, beside the recipe's own, on the images compared.

    Args:
        found: What the search found.
        rows: Of the comparison, with the runs `GAN` and, where their settings differ, `OWN`.
    """
    measured = {row.model: row.measured for row in rows}
    if OWN not in measured:
        return "the search found nothing better than the recipe's own settings"
    ours, own = measured[GAN], measured[OWN]
    gained = difference(ours, own, SCORE)
    text = f"{gained.text()} ({gained.word})" if gained else "no difference can be worked out"
    scores = " against ".join(SCORE.text(each.mean[SCORE.name]) for each in (ours, own))
    return f"the search: score {scores} with the recipe's own settings, {text}; {found.steps} steps and one seed each"


def write_picture(models: Sequence[Model], path: Path) -> None:
    """Write a picture of places in photographs that were held out: lr, what each model makes of it, and the original.

    Args:
        models: Bicubic, that by pixels, that against a judge.
        path: A PNG file.
    """
    photos, scale, rows = {file.name: decode(file.path) for file in open_demo().held_out}, models[0].scale, []
    for name, row, column in SHOWN:
        hr = photos[name][row : row + SHOWN_SIDE, column : column + SHOWN_SIDE]
        lr = resize(hr, 1 / scale)
        pictures = [_repeated(lr, scale), *(_enlarged(model, lr) for model in models), hr]
        rows.append([Image.fromarray(_repeated(pixels, ENLARGED)) for pixels in pictures])
    titles = ["low resolution", "bicubic", "by pixels", "against a judge", "original"]
    with atomic.file(path) as unfinished:
        labelled(titles, rows).save(unfinished, format="PNG")


def write_small(scale: int, folder: Path) -> Path:
    """Write a held-out photograph made small by bicubic interpolation, and return its file."""
    path = folder / f"small_{PHOTO}"
    pixels = next(decode(file.path) for file in open_demo().held_out if file.name == PHOTO)
    _save(resize(pixels, 1 / scale), path)
    return path


def _enlarged(model: Model, lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return what a model makes of lr (h, w, 3): (scale * h, scale * w, 3)."""
    sr = upscale(model.generator, torch.from_numpy(lr).permute(2, 0, 1)[None].float() / 255)
    return (255 * sr[0].clamp(0, 1)).round().byte().permute(1, 2, 0).numpy()


def _repeated(pixels: NDArray[np.uint8], times: int) -> NDArray[np.uint8]:
    """Return an image (h, w, 3) with each pixel as a square: (times * h, times * w, 3)."""
    return pixels.repeat(times, 0).repeat(times, 1)


def _written(value: Any) -> str:
    """Return a value as `--set` takes it."""
    return json.dumps(value)


def _save(pixels: NDArray[np.uint8], path: Path, text: PngInfo | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic.file(path) as unfinished:
        Image.fromarray(pixels).save(unfinished, format="PNG", pnginfo=text)
