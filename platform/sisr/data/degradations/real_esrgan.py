"""The second-order degradation of Real-ESRGAN: blur, resize, noise and JPEG, twice, with ringing at the end.

Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data", 2021, section 3.
https://arxiv.org/abs/2107.10833
The defaults are the published settings. There one batch shares factor, mode and kind of noise; here each example has
its own, which makes the published queue of 180 mixed examples unnecessary. JPEG quality is a whole number, as libjpeg
takes it, and the JPEG is libjpeg's.
"""

import math

from torch import Tensor

from sisr.config.degradation import KERNELS, RealEsrgan, Round
from sisr.data.degradations.chance import Chance
from sisr.data.degradations.kernels import Kernel
from sisr.data.degradations.operations import (
    MODES,
    Filter,
    GaussianNoise,
    Jpeg,
    Operation,
    PoissonNoise,
    Resize,
    run,
)
from sisr.data.draws import Draws

NUMBERS = 48  # uniform ones that a chain takes at most
SIDES = (7, 21)  # px, of kernels: odd ones, each as likely


def real_esrgan(settings: RealEsrgan, hr: Tensor, scale: int, draws: Draws) -> Tensor:
    """Return lr, 1 / scale as large, of hr (n, 3, h, w) in [0, 1]."""
    chances = Chance.of_each(draws, NUMBERS)
    height, width = hr.shape[-2:]
    return run([plan(settings, chance, height, width, scale) for chance in chances], hr, draws)


def plan(settings: RealEsrgan, chance: Chance, height: int, width: int, scale: int) -> list[Operation]:
    """Return the operations that an example goes through; they make it 1 / scale as large."""
    s, target = settings, (height // scale, width // scale)
    first = _round(s.first, chance, (height, width))
    *second, last_jpeg = _round(s.second, chance, target)
    last: list[Operation] = [Resize(*target, chance.one_of(MODES))]
    ringing = Kernel("sinc", chance.whole(*SIDES, 2), cutoff=chance.between((math.pi / 3, math.pi)))
    if chance.happens(s.final_sinc_probability):
        last.append(Filter(ringing))
    return [*first, *second, *([*last, last_jpeg] if chance.happens(0.5) else [last_jpeg, *last])]


def _round(settings: Round, chance: Chance, size: tuple[int, int]) -> list[Operation]:
    """Return the operations of a round, of which the last is JPEG; its factor is that of `size`, in px."""
    s = settings
    blur: list[Operation] = [Filter(_kernel(s, chance))] if chance.happens(s.blur_probability) else []
    factor = _factor(s, chance)
    height, width = (max(1, int(side * factor)) for side in size)
    return [*blur, Resize(height, width, chance.one_of(MODES)), _noise(s, chance), Jpeg(chance.whole(*s.quality))]


def _noise(settings: Round, chance: Chance) -> Operation:
    s, is_grey = settings, chance.happens(settings.grey_probability)
    if chance.happens(s.gaussian_probability):
        return GaussianNoise(chance.between(s.gaussian_sigma), is_grey)
    return PoissonNoise(chance.between(s.poisson_strength), is_grey)


def _kernel(settings: Round, chance: Chance) -> Kernel:
    s, side = settings, chance.whole(*SIDES, 2)
    if chance.happens(s.sinc_probability):
        return Kernel("sinc", side, cutoff=chance.between((math.pi / (5 if side >= 13 else 3), math.pi)))
    kind = chance.one_of(KERNELS, s.kernels)
    sigma = chance.between(s.sigma)
    sigmas, angle = (sigma, sigma), 0.0
    if "anisotropic" in kind:
        sigmas, angle = (sigma, chance.between(s.sigma)), chance.between((-math.pi, math.pi))
    if "generalised" in kind:
        return Kernel("gaussian", side, sigmas, angle, _power(s.generalised_power, chance))
    if "plateau" in kind:
        return Kernel("plateau", side, sigmas, angle, _power(s.plateau_power, chance))
    return Kernel("gaussian", side, sigmas, angle)


def _power(bounds: tuple[float, float], chance: Chance) -> float:
    """Return beta: half of the draws between the lower bound and 1, half between 1 and the upper one."""
    low, high = bounds
    if not low <= 1 <= high:
        return chance.between(bounds)
    return chance.between((low, 1.0) if chance.happens(0.5) else (1.0, high))


def _factor(settings: Round, chance: Chance) -> float:
    """Return new side / side: between 1 and the upper bound, between the lower bound and 1, or 1."""
    low, high = settings.factor
    way = chance.one_of(("up", "down", "keep"), settings.resize)
    if way == "keep":
        return 1.0
    return chance.between((1.0, high) if way == "up" else (low, 1.0))
