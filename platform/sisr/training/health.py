"""Whether a generator and its judge are still in good shape: numbers of each evaluation, and warnings.

Nothing here stops a run; `training.guard` does. The numbers are logged as `health/NAME`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sisr.disk.run_folder import RunFolder
from sisr.metrics.catalogue import PSNR_Y, SCORE, deciding
from sisr.metrics.lab import colour_shift
from sisr.recipe import Roles
from sisr.training.session import Log

THUMBNAIL = 8  # px a side, of what images are compared by with one another
COLLAPSED = 0.05  # of bicubic's variance over images
FLOOR_DB = 3.0  # below bicubic
FLOOR_EVALUATIONS = 3  # in a row
GRACE_STEPS = 1000  # at the start, or a tenth of the run if that is more: no generator is good at once

Thumbnails = tuple[NDArray[np.float64], NDArray[np.float64]]  # (3, 8, 8) of sr and of bicubic


def of_image(sr: Tensor, bicubic: Tensor, hr: Tensor, scale: int) -> dict[str, float]:
    """Return the health numbers of one image; each is (1, 3, h, w) in [0, 1].

    * `variance_ratio`: variance over the pixels of sr / of bicubic; a little over 1 at best, for bicubic is blurred.
    * `colour_shift`: distance in Lab between the mean colours of sr and bicubic, 0 at best; 2 can be seen.
    * `downscale_consistency`: mean absolute difference between sr and hr, both averaged over scale x scale pixels, in
      units of white, 0 at best. Against hr and not lr, because a recipe's degradation may blur, add noise or
      compress, none of which sr should show; and reducing sr by it again would be costly and random.
    """
    variances = [float(image.double().var(dim=(2, 3)).mean()) for image in (sr, bicubic)]
    difference = functional.avg_pool2d(sr.double(), scale) - functional.avg_pool2d(hr.double(), scale)
    return {
        "variance_ratio": (variances[0] + 1e-9) / (variances[1] + 1e-9),
        "colour_shift": float(colour_shift(sr, bicubic)),
        "downscale_consistency": float(difference.abs().mean()),
    }


def thumbnails(sr: Tensor, bicubic: Tensor) -> Thumbnails:
    """Return sr and bicubic, each (1, 3, h, w), averaged down to `THUMBNAIL` pixels a side."""
    small = [functional.adaptive_avg_pool2d(image.double(), THUMBNAIL)[0].cpu().numpy() for image in (sr, bicubic)]
    return small[0], small[1]


def of_images(pairs: Sequence[Thumbnails]) -> dict[str, float]:
    """Return `variance_over_images`: how much sr differs from image to image / how much bicubic does.

    0 where every input gives the same output. Nothing where there is one image only, or all are alike.
    """
    ours, theirs = (np.stack(each).var(axis=0).mean() for each in zip(*pairs, strict=True))
    return {"variance_over_images": float(ours / theirs)} if theirs > 1e-6 else {}


def of_step(
    scalars: dict[str, float], norms: dict[str, Tensor], roles: Roles, stepped: dict[str, str]
) -> dict[str, float]:
    """Return the judge's mean outputs and both networks' gradient norms in the last step, where they exist.

    Args:
        scalars: What the recipe logged, averaged over workers.
        norms: L2 norm of each optimizer's averaged gradient, by the optimizer's name.
        roles: Say which networks are judges, and where their outputs are logged.
        stepped: The network that each optimizer steps, both by name.
    """
    outputs = [(f"judge_{side}", judge.scalar(side)) for judge in roles.judges for side in ("real", "fake")]
    found = {short: scalars[name] for short, name in outputs if name in scalars}
    kinds = {"generator": "generator"} | {judge.network: "judge" for judge in roles.judges}
    owned = [(kinds[stepped[name]], norm) for name, norm in norms.items() if stepped.get(name) in kinds]
    return found | {f"gradient_norm_{kind}": float(norm) for kind, norm in owned}


class Warnings:
    """Says once per run what looks wrong, to its user and as a tag."""

    def __init__(self, folder: RunFolder, log: Log, steps: int) -> None:
        """Watch a run of `steps` steps."""
        self._folder, self._log = folder, log
        self._grace = max(GRACE_STEPS, steps // 10)
        self._below = 0

    def look(self, done: int, values: dict[str, float], health: dict[str, float], baseline: dict[str, float]) -> None:
        """Look at an evaluation: `values` are `val/...`, `health` and bicubic's `baseline` are without a prefix."""
        if done < self._grace:
            return
        ratio = health.get("variance_over_images", 1.0)
        if ratio < COLLAPSED:
            text = f"outputs of different images differ {ratio:.2g} times as much as bicubic's; the judge may be fooled"
            self._say("output collapsed", done, f"{text} by one picture: try a smaller adversarial weight")
        psnr, bicubic = values[f"val/{PSNR_Y.name}"], baseline[PSNR_Y.name]
        self._below = self._below + 1 if psnr < bicubic - FLOOR_DB else 0
        if self._below == FLOOR_EVALUATIONS:
            text = f"{psnr:.2f} dB PSNR-Y, bicubic {bicubic:.2f}, and so in {FLOOR_EVALUATIONS} evaluations"
            self._say("quality floor", done, f"{text} in a row: try a lower learning rate or adversarial weight")

    def _say(self, kind: str, done: int, text: str) -> None:
        if any(line.startswith(kind) for line in self._folder.warnings()):
            return
        self._folder.warn(f"{kind} at step {done}: {text}; training goes on")
        self._log.tags({f"sisr.warning.{kind.replace(' ', '_')}": f"step {done}: {text}"})


def best_metric(roles: Roles, values: dict[str, float]) -> str:
    """Return which of a validation's `values` decides which checkpoint is best, for a recipe of these roles."""
    adversarial = f"val/{SCORE.name}" in values and bool(roles.judges)
    return f"val/{deciding(adversarial=adversarial).name}"
