"""The table of metrics: what each is called, which end of it is better, its unit, its digits and what it needs.

Everything that judges models reads it: the gate, comparisons, the best checkpoint, the objective of a sweep, tables,
plots and MLflow's views. A new metric is a file in this room and a line in `METRICS`. The file of one that compares
pixels has a function of its own name, as `psnr.psnr`; that of a perceptual distance has `build`, as `lpips.build`.
"""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Literal

from sisr.config.wording import did_you_mean
from sisr.errors import ConfigError

Mode = Literal["max", "min"]
PYTORCH = "https://download.pytorch.org/models/"


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
    kind: Literal["pixels", "distance", "combined"]  # compared pixel by pixel; perceptual; computed from others
    file: str  # of this room, that measures it
    channels: Literal["Y", "RGB"] = "RGB"
    always: bool = True  # measured at each validation and comparison; False: only by `sisr evaluate` and the gate
    per_image: bool = True  # False: one value for all images together
    option: str = ""  # of a distance: the word that chooses it, as in perceptual=vgg
    package: str = ""  # that must be installed
    weights: str = ""  # address of the file that must lie in torch's cache
    least: int = 0  # px, shortest side that it can measure

    def text(self, value: float, *, unit: bool = True, signed: bool = False) -> str:
        """Return a value as people read it, such as `28.43 dB`; `signed`: with its sign."""
        return f"{value:{'+' if signed else ''}.{self.digits}f}{f' {self.unit}' if unit and self.unit else ''}"

    def difference(self, value: float, *, unit: bool = True) -> str:
        """Return a difference of two values, with its sign and one digit more than a value has."""
        return replace(self, digits=self.digits + 1).text(value, unit=unit, signed=True)

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
        SCORE,
    )
}  # fmt: skip

PIXELS = [metric for metric in METRICS.values() if metric.kind == "pixels"]
ALWAYS = [metric for metric in PIXELS if metric.always]
DISTANCES = [metric for metric in METRICS.values() if metric.kind == "distance"]
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


def deciding(*, adversarial: bool) -> Metric:
    """Return the metric by which models of a recipe are ranked: the score where it has a judge.

    By PSNR alone an adversarial run is best before its judge has any say.
    """
    return SCORE if adversarial else PSNR_Y
