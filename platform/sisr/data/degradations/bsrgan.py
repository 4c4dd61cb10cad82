"""The shuffled degradation of BSRGAN: two blurs, two resizes, noise and JPEG in random order.

Zhang et al., "Designing a Practical Degradation Model for Deep Blind Image Super-Resolution", 2021, section 3.
https://arxiv.org/abs/2103.14006
The noise of a camera's raw pixels, which a quarter of the published examples have, is left out: it needs a model of
the camera. The shifted Gaussian is computed at shifted places, not interpolated.
"""

import math

import numpy as np
from torch import Tensor

from sisr.config.degradation import Bsrgan
from sisr.data.degradations.chance import Chance
from sisr.data.degradations.kernels import Kernel
from sisr.data.degradations.operations import (
    MODES,
    Clamp,
    Downscale,
    Filter,
    GaussianNoise,
    Jpeg,
    Operation,
    Resize,
    Subsample,
    run,
)
from sisr.data.draws import Draws

NUMBERS = 48  # uniform ones that a chain takes at most
SIDES = (7, 25)  # px, of blur kernels: odd ones, each as likely
LEAST = 1e-3  # px, of a kernel's deviation: as good as no blur
NOISES = ("coloured", "grey", "correlated")


def bsrgan(settings: Bsrgan, hr: Tensor, scale: int, draws: Draws) -> Tensor:
    """Return lr, 1 / scale as large, of hr (n, 3, h, w) in [0, 1]."""
    chances = Chance.of_each(draws, NUMBERS)
    height, width = hr.shape[-2:]
    return run([plan(settings, chance, height, width, scale) for chance in chances], hr, draws)


def plan(settings: Bsrgan, chance: Chance, height: int, width: int, scale: int) -> list[Operation]:
    """Return the operations that an example goes through; they make it 1 / scale as large."""
    target = height // scale, width // scale
    chain: list[Operation] = []
    if scale == 4 and chance.happens(settings.halving_probability):
        height, width, scale = height // 2, width // 2, 2
        halved = Resize(height, width, chance.one_of(MODES)) if chance.happens(0.5) else Downscale(2)
        chain += [halved, Clamp()]
    order = chance.order(["blur", "other blur", "first resize", "last resize", "noise", "jpeg"])
    resizes = [place for place, name in enumerate(order) if name.endswith("resize")]
    order[resizes[0]], order[resizes[1]] = "first resize", "last resize"
    for name in order:
        if name.endswith("blur"):
            chain.append(Filter(_blur(chance, scale)))
        elif name == "first resize":
            chain += _first_resize(chance, height, width, scale)
        elif name == "last resize":
            chain += [Resize(*target, chance.one_of(MODES)), Clamp()]
        elif name == "noise":
            chain.append(_noise(settings, chance))
        elif chance.happens(settings.jpeg_probability):
            chain.append(Jpeg(chance.whole(*settings.quality)))
    return [*chain, Jpeg(chance.whole(*settings.quality))]


def _blur(chance: Chance, scale: int) -> Kernel:
    side = chance.whole(*SIDES, 2)
    if chance.happens(0.5):
        sigma = max(LEAST, chance.between((0.0, 2 + 0.2 * scale)))
        return Kernel("gaussian", side, (sigma, sigma))
    variances = [chance.between((0.0, 4.0 + scale)) for _ in range(2)]
    first, second = (max(LEAST, math.sqrt(variance)) for variance in variances)
    return Kernel("gaussian", side, (first, second), chance.between((0.0, math.pi)))


def _first_resize(chance: Chance, height: int, width: int, scale: int) -> list[Operation]:
    if chance.happens(0.75):
        factor = chance.between((1.0, 2.0 * scale))
        size = max(1, int(height / factor)), max(1, int(width / factor))
        return [Resize(*size, chance.one_of(MODES)), Clamp()]
    sigma = chance.between((0.1, 0.6 * scale))
    # The pixel that is kept is the first of scale x scale: the kernel looks at their middle.
    kernel = Kernel("gaussian", 25, (sigma, sigma), centre=(scale - 1) / 2)
    return [Filter(kernel), Subsample(scale), Clamp()]


def _noise(settings: Bsrgan, chance: Chance) -> GaussianNoise:
    kind = chance.one_of(NOISES, (0.4, 0.4, 0.2))
    low, high = settings.noise_sigma
    sigma = chance.whole(low, high)
    if kind != "correlated":
        return GaussianNoise(sigma, grey=kind == "grey")
    powers, directions = _numbers(chance, 3), _numbers(chance, 9).reshape(3, 3)
    basis = np.linalg.svd(directions)[0]
    values, vectors = np.linalg.eigh(np.abs(basis.T @ np.diag(powers) @ basis))
    mixing = vectors * np.sqrt(np.abs(values))
    return GaussianNoise(high, mixing=tuple(map(tuple, mixing.tolist())))


def _numbers(chance: Chance, count: int) -> np.ndarray:
    return np.array([chance.between((0.0, 1.0)) for _ in range(count)])
