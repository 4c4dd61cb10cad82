"""The table of metrics: what each is called, which end of it is better, its unit, its digits and what it needs.

Everything that judges models reads it: the gate, comparisons, the best checkpoint, the objective of a sweep, tables,
plots and MLflow's views. A new metric is a file in this room and a line in `METRICS`. The file of one that compares
pixels has a function of its own name, as `psnr.psnr`; that of any other has `build`, as `lpips.build`.
"""

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Literal

from sisr.config.wording import did_you_mean
from sisr.errors import ConfigError

Mode = Literal["max", "min"]
FEWEST = 6  # images that show a difference: 5 differences have the same sign by chance once in 16 times, over 1 in 20
PYTORCH = "https://download.pytorch.org/models/"
NIQE = "https://github.com/XPixelGroup/BasicSR/raw/master/basicsr/metrics/niqe_pris_params.npz"
INCEPTION = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"


@dataclass(frozen=True)
class Metric:
    """One way of saying how good sr is."""

    name: str  # as it is logged, after `val/`, `final/` or nothing
    title: str  # for people
    mode: Mode  # whether more of it is better, or less
    noticeable: float  # smaller differences are noise between two checkpoints of a run
    _: KW_ONLY
    digits: int = 4  # after the point
    unit: str = ""
    # Compared pixel by pixel; the perceptual one beside them; measured where it is asked for; computed from others.
    kind: Literal["pixels", "distance", "further", "combined"]
    file: str  # of this room, that measures it
    channels: Literal["Y", "RGB"] = "RGB"
    always: bool = True  # measured at each validation and comparison; False: only by `sisr evaluate` and the gate
    per_image: bool = True  # False: one value for all images together
    option: str = ""  # of a distance: the word that chooses it, as in perceptual=vgg
    package: str = ""  # that must be installed
    extra: str = "perceptual"  # of this project, that installs it
    weights: str = ""  # address of the file that must lie in torch's cache
    least: int = 0  # px, shortest side that it can measure

    def text(self, value: float, *, unit: bool = True, signed: bool = False) -> str:
        """Return a value as people read it, such as `28.43 dB`; `signed`: with its sign."""
        return f"{value:{'+' if signed else ''}.{self.digits}f}{f' {self.unit}' if unit and self.unit else ''}"

    def difference(self, value: float, *, unit: bool = True) -> str:
        """Return a difference of two values, with its sign and one digit more than a value has; more, not to be 0."""
        digits = self.digits + 1
        if value and abs(value) < 0.5 * 10.0**-digits:  # it would read as 0
            digits = -math.floor(math.log10(abs(value)))
        return replace(self, digits=digits).text(value, unit=unit, signed=True)

    def gain(self, new: float, old: float) -> float:
        """Return by how much `new` is better than `old`: positive where it is better."""
        return new - old if self.mode == "max" else old - new


PSNR_Y = Metric("psnr_y", "PSNR-Y", "max", 0.05, digits=2, unit="dB", kind="pixels", file="psnr", channels="Y")
SCORE = Metric("score", "score", "max", 0.02, digits=3, kind="combined", file="score")
ANY_DISTANCE = Metric("perceptual", "perceptual distance", "min", 0.0, kind="distance", file="perceptual")  # in tables

METRICS = {
    metric.name: metric
    for metric in (
        PSNR_Y,
        Metric("ssim_y", "SSIM-Y", "max", 0.002, kind="pixels", file="ssim", channels="Y"),
        Metric("psnr_rgb", "PSNR-RGB", "max", 0.05, digits=2, unit="dB", kind="pixels", file="psnr", always=False),
        Metric("ssim_rgb", "SSIM-RGB", "max", 0.002, kind="pixels", file="ssim", always=False),
        Metric(
            "lpips", "LPIPS", "min", 0.005, kind="distance", file="lpips", option="lpips", package="lpips",
            weights=f"{PYTORCH}alexnet-owt-7be5be79.pth", least=31,
        ),
        Metric(
            "vgg_relu3_1", "VGG distance", "min", 0.05, digits=3, kind="distance", file="vgg", option="vgg",
            weights=f"{PYTORCH}vgg19-dcbb9e9d.pth", least=4,
        ),
        Metric("swd", "SWD", "min", 1.0, digits=1, kind="distance", file="swd", option="swd", least=7, per_image=False),
        Metric(
            "dists", "DISTS", "min", 0.005, kind="further", file="dists", package="DISTS_pytorch", extra="measures",
            weights=f"{PYTORCH}vgg16-397923af.pth", least=32,
        ),
        Metric("niqe", "NIQE", "min", 0.1, digits=3, kind="further", file="niqe", weights=NIQE, least=192),
        Metric(
            "fid", "FID", "min", 1.0, digits=2, kind="further", file="fid", package="pytorch_fid", extra="measures",
            weights=INCEPTION, least=128, per_image=False,
        ),
        SCORE,
    )
}  # fmt: skip

PIXELS = [metric for metric in METRICS.values() if metric.kind == "pixels"]
ALWAYS = [metric for metric in PIXELS if metric.always]
DISTANCES = [metric for metric in METRICS.values() if metric.kind == "distance"]
FURTHER = [metric for metric in METRICS.values() if metric.kind == "further"]
FURTHER_MEANING = ", ".join(metric.name for metric in FURTHER)
PERCEPTUAL_CHOICES = ("auto", "none", *(metric.option for metric in DISTANCES))  # besides a file's path; best first
PERCEPTUAL_MEANING = (
    "auto (of the next three the first whose weights are here), lpips, vgg, swd, none or a VGG-19 weights file"
)
# What a table of validations has columns for: a run measures at most one of the distances.
AT_VALIDATION = [*ALWAYS, ANY_DISTANCE, SCORE]


def find(name: str) -> Metric | None:
    """Return the metric called `name`, such as `psnr_y`, `val/psnr_y` or `val/perceptual`; None where there is none."""
    name = name.rpartition("/")[2]
    return ANY_DISTANCE if name == ANY_DISTANCE.name else METRICS.get(name)


def metric(name: str) -> Metric:
    """Return the metric called `name`, as `find` does.

    Raises:
        ConfigError: There is none; the message lists all.
    """
    found = find(name)
    if found is None:
        hint = did_you_mean(name, METRICS) or f"there are {', '.join(METRICS)}"
        raise ConfigError(f"no metric '{name}'; {hint}")
    return found


def further_names(request: str) -> list[str]:
    """Return the further metrics that a request such as `dists,niqe` names, each once.

    Raises:
        ConfigError: One is none of `FURTHER`.
    """
    names, known = [name.strip() for name in request.split(",") if name.strip()], [metric.name for metric in FURTHER]
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) or f"there are {', '.join(known)}"
            raise ConfigError(f"no further metric '{name}'; {hint} (the others are measured anyway)")
    return list(dict.fromkeys(names))


def direction(name: str) -> Mode:
    """Return whether more or less of a metric is better; more, where it is not in the table, as a loss is not."""
    found = find(name)
    return found.mode if found else "max"


def value_of(values: Mapping[str, Any], name: str) -> Any:
    """Return a metric's value among others, or None where it is not there.

    Args:
        values: By name, all with the same prefix as `name`.
        name: `perceptual` stands for whichever distance is there.
    """
    prefix, slash, last = name.rpartition("/")
    names = [metric.name for metric in DISTANCES] if last == ANY_DISTANCE.name else [last]
    return next((values[key] for key in (f"{prefix}{slash}{each}" for each in names) if key in values), None)


def name_in(values: Mapping[str, Any], name: str) -> str:
    """Return `name`, or where it stands for any distance the name of the one that is there."""
    prefix, slash, last = name.rpartition("/")
    if last != ANY_DISTANCE.name:
        return name
    return next((key for key in (f"{prefix}{slash}{each.name}" for each in DISTANCES) if key in values), name)


def deciding(*, adversarial: bool) -> Metric:
    """Return the metric by which models of a recipe are ranked: the score where it has a judge.

    By PSNR alone an adversarial run is best before its judge has any say.
    """
    return SCORE if adversarial else PSNR_Y
