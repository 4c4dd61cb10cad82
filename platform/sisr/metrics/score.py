"""One number for a generator that must be both faithful and sharp.

PSNR alone drives the weight of every adversarial term to zero: no method can be best in both, and what lowers the error
beyond some point looks less like a photograph (Blau & Michaeli, "The Perception-Distortion Tradeoff", 2018,
https://arxiv.org/abs/1711.06077). A perceptual distance alone forgives detail that is invented. Their geometric mean
lets neither be bought by giving up the other: losing half of one costs what doubling the other gains.
"""

import math


def score(psnr: float, psnr_bicubic: float, distance: float, distance_bicubic: float, power: int = 1) -> float:
    """Return how many doublings better than bicubic sr is, in the geometric mean of fidelity and perception.

    That is -1/2 log2(rmse / rmse of bicubic) - 1/2 log2(d / d of bicubic): 0 is as good as bicubic, 1 twice as good.

    Args:
        psnr: dB, mean over the images.
        psnr_bicubic: Of bicubic on the same images.
        distance: Perceptual; less is better.
        distance_bicubic: Of bicubic on the same images.
        power: 2 where the distance is a squared one, so that its root is as much of an amplitude as the rmse; else 1.
    """
    # Equal ones may both be infinite.
    fidelity = 0.0 if psnr == psnr_bicubic else (psnr - psnr_bicubic) / (20 * math.log10(2))
    return (fidelity + _doublings(distance_bicubic, distance) / power) / 2


def _doublings(before: float, after: float) -> float:
    """Return how often `before` is halved to reach `after`, both at least 0 or NaN; 0 where they are equal."""
    if before == after:
        return 0.0
    if before == 0 or after == 0:
        return math.inf if after == 0 else -math.inf
    return math.log2(before / after)
