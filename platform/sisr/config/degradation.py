"""How lr is made, as a setting: a name, or a mapping with its parameters; what is left out is as published.

Light, as all settings: `sisr.data.degradations` is what computes.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator

from sisr.config.settings import Field, Settings, build
from sisr.config.wording import Words, did_you_mean

KERNELS = ("isotropic", "anisotropic", "generalised", "generalised anisotropic", "plateau", "plateau anisotropic")


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    low, high = bounds
    if not 0 < low <= high:
        raise ValueError("wants two numbers above 0, the smaller one first")
    return bounds


def _qualities(bounds: tuple[int, int]) -> tuple[int, int]:
    if bounds[1] > 100:
        raise ValueError("wants whole numbers of 1 to 100")
    return bounds


def _some(shares: tuple[float, ...]) -> tuple[float, ...]:
    if min(shares) < 0 or not sum(shares):
        raise ValueError("wants numbers of at least 0, one of them above")
    return shares


Bounds = Annotated[tuple[float, float], AfterValidator(_ordered)]  # uniform between the two
Wholes = Annotated[tuple[int, int], AfterValidator(_ordered)]  # one of those between the two, both included
Quality = Annotated[Wholes, AfterValidator(_qualities)]
Probability = Annotated[float, Field(ge=0, le=1)]
Shares3 = Annotated[tuple[float, float, float], AfterValidator(_some)]
Shares6 = Annotated[tuple[float, float, float, float, float, float], AfterValidator(_some)]


class Bicubic(Settings):
    """MATLAB's antialiased bicubic, and 8 bits: what the field's benchmarks are made by."""

    kind: Literal["bicubic"] = Field("bicubic", description="which degradation")


class Area(Settings):
    """Means of scale x scale pixels, and 8 bits."""

    kind: Literal["area"] = Field("area", description="which degradation")


class Blur(Settings):
    """A Gaussian of random width, then bicubic, and 8 bits."""

    kind: Literal["blur"] = Field("blur", description="which degradation")
    sigma: Bounds = Field((0.1, 2.0), description="px of hr, deviation of the Gaussian")


class Round(Settings):
    """One of the two rounds of Real-ESRGAN's chain."""

    blur_probability: Probability = Field(1.0, description="that there is a blur at all")
    sinc_probability: Probability = Field(0.1, description="of a sinc filter instead of a blur kernel")
    kernels: Shares6 = Field(
        (0.45, 0.25, 0.12, 0.03, 0.12, 0.03), description=f"shares of {', '.join(KERNELS)} kernels"
    )
    sigma: Bounds = Field((0.2, 3.0), description="px, deviation of kernels along each axis")
    generalised_power: Bounds = Field((0.5, 4.0), description="beta; half of the draws are below 1")
    plateau_power: Bounds = Field((1.0, 2.0), description="beta; half of the draws are at most 1")
    resize: Shares3 = Field((0.2, 0.7, 0.1), description="shares of up, down and neither")
    factor: Bounds = Field((0.15, 1.5), description="new side / side; least when down, most when up")
    gaussian_probability: Probability = Field(0.5, description="of Gaussian noise; else Poisson")
    gaussian_sigma: Bounds = Field((1.0, 30.0), description="grey levels of 255")
    poisson_strength: Bounds = Field((0.05, 3.0), description="times what the photons would make")
    grey_probability: Probability = Field(0.4, description="of grey noise")
    quality: Quality = Field((30, 95), description="of JPEG, as libjpeg counts it")


class SecondRound(Round):
    """The second round, which is milder."""

    blur_probability: Probability = Field(0.8, description="that there is a blur at all")
    sigma: Bounds = Field((0.2, 1.5), description="px, deviation of kernels along each axis")
    resize: Shares3 = Field((0.3, 0.4, 0.3), description="shares of up, down and neither")
    factor: Bounds = Field((0.3, 1.2), description="new side / side of lr; least when down, most when up")
    gaussian_sigma: Bounds = Field((1.0, 25.0), description="grey levels of 255")
    poisson_strength: Bounds = Field((0.05, 2.5), description="times what the photons would make")


class RealEsrgan(Settings):
    """Blur, resize, noise and JPEG, twice, and a last sinc filter before or after the last JPEG."""

    kind: Literal["real_esrgan"] = Field("real_esrgan", description="which degradation")
    first: Round = Field(Round(), description="the first round")
    second: SecondRound = Field(SecondRound(), description="the second round")
    final_sinc_probability: Probability = Field(0.8, description="of ringing at the end")


class Bsrgan(Settings):
    """Two blurs, two resizes, noise and JPEG in random order, and a last JPEG."""

    kind: Literal["bsrgan"] = Field("bsrgan", description="which degradation")
    halving_probability: Probability = Field(0.25, description="at scale 4, that hr is halved first")
    noise_sigma: Wholes = Field((2, 25), description="grey levels of 255; correlated noise has the greatest")
    jpeg_probability: Probability = Field(0.9, description="of a JPEG somewhere before the last one")
    quality: Quality = Field((30, 95), description="of both JPEGs, as libjpeg counts it")


KINDS: dict[str, type[Settings]] = {
    "bicubic": Bicubic,
    "area": Area,
    "blur": Blur,
    "real_esrgan": RealEsrgan,
    "bsrgan": Bsrgan,
}
WANTED = f"{', '.join(KINDS)}, or a mapping with one of them as kind"


def read(value: Any) -> Any:
    """Return the degradation that a user has written, with the published parameters where none are given.

    Raises:
        ValueError: It is none, or a parameter is wrong.
    """
    if value is None or isinstance(value, Settings):
        return value
    values = {"kind": value} if isinstance(value, str) else value
    kind = values.get("kind") if isinstance(values, Mapping) else None
    if kind not in KINDS:
        near = did_you_mean(kind, KINDS) if isinstance(kind, str) else None
        raise ValueError(f"wants {WANTED}" + (f"; {near}" if near else ""))
    return build(KINDS[kind], values, source=kind)


Degradation = Annotated[Bicubic | Area | Blur | RealEsrgan | Bsrgan, BeforeValidator(read), Words(WANTED)]
