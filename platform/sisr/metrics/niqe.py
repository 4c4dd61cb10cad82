"""Natural image quality evaluator: how far an image's statistics lie from those of good photographs. Less is better.

Mittal et al., "Making a 'Completely Blind' Image Quality Analyzer", 2013. https://doi.org/10.1109/LSP.2012.2227726

Sr alone is looked at; there is no reference. As the authors' program: all blocks of 96 px, and the half size by
MATLAB's bicubic. Of the luma, unrounded, as papers on super-resolution do, where that program takes MATLAB's grey.
"""

import math
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sisr.data.bicubic import resize
from sisr.errors import ConfigError
from sisr.metrics.catalogue import METRICS
from sisr.metrics.perceptual import MeanOfImages
from sisr.metrics.planes import luma

BLOCK = 96  # px
SHAPES = np.arange(0.2, 10.001, 0.001)  # of distributions, alpha, that are tried
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # rows and columns to the pixel that another is multiplied by

Plane = NDArray[np.float64]


def build(weights: Path, device: torch.device) -> MeanOfImages:
    """Return the measure by the authors' model of good photographs in a file; it is computed on the CPU.

    Raises:
        ConfigError: It can't be read.
    """
    try:
        with np.load(weights, allow_pickle=False) as file:
            mean, covariance, window = (file[n] for n in ("mu_pris_param", "cov_pris_param", "gaussian_window"))
        mean, covariance = mean.reshape(36), covariance.reshape(36, 36)
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ConfigError(
            f"{weights} can't be read as NIQE's model ({error}): replace it by {METRICS['niqe'].weights}"
        ) from error

    def measure(sr: Tensor, hr: Tensor) -> float:
        return distance(features(luma(sr.cpu())[0, 0].numpy(), window), mean, covariance)

    return MeanOfImages("niqe", "niqe-y-96px", 1, measure)


def distance(found: Plane, mean: Plane, covariance: Plane) -> float:
    """Return how far blocks' features (n, 36) lie from the model (equation 10); NaN of fewer than two usable blocks."""
    usable = found[~np.isnan(found).any(axis=1)]  # a block of one colour has no shape
    if len(usable) < 2:
        return math.nan
    apart = mean - np.nanmean(found, axis=0)
    return math.sqrt(apart @ np.linalg.pinv((covariance + np.cov(usable, rowvar=False)) / 2) @ apart)


def features(plane: Plane, window: Plane) -> Plane:
    """Return the features (n, 36) of all whole blocks of an image (h, w) in 0 .. 255, at its size and at half of it."""
    rows, columns = (side // BLOCK for side in plane.shape)
    plane = plane[: rows * BLOCK, : columns * BLOCK]
    scales = []
    for side, image in ((BLOCK, plane), (BLOCK // 2, resize(plane, Fraction(1, 2)))):
        normal = _normalised(image, window)
        blocks = normal.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(-1, side, side)
        scales.append([_block_features(block) for block in blocks])
    return np.concatenate([np.array(each) for each in scales], axis=1)


def _normalised(image: Plane, window: Plane) -> Plane:
    """Return an image without its local mean, over its local deviation (equation 1)."""
    squared = torch.from_numpy(np.stack([image, image**2]))[:, None]
    kernel = torch.from_numpy(window.astype(np.float64))[None, None]
    edge = window.shape[0] // 2
    mean, square = functional.conv2d(functional.pad(squared, (edge,) * 4, mode="replicate"), kernel)[:, 0].numpy()
    normal: Plane = (image - mean) / (np.sqrt(np.abs(square - mean**2)) + 1)
    return normal


def _block_features(block: Plane) -> list[float]:
    """Return 18 numbers: shape and width of a block's values, and four of each product of neighbours (equation 8)."""
    shape, left, right = _asymmetric(block)
    found = [shape, (left + right) / 2]
    for shift in NEIGHBOURS:
        shape, left, right = _asymmetric(block * np.roll(block, shift, axis=(0, 1)))
        found += [shape, (right - left) * _ratio(shape), left, right]
    return found


def _asymmetric(values: Plane) -> tuple[float, float, float]:
    """Return alpha, beta left and beta right of the asymmetric Gaussian that values follow (equation 7), or NaN."""
    squares = values**2
    if not (values < 0).any() or not (values > 0).any():
        return math.nan, math.nan, math.nan
    left, right = (math.sqrt(squares[side].mean()) for side in (values < 0, values > 0))
    ratio = left / right
    moment = np.abs(values).mean() ** 2 / squares.mean()
    moment *= (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shape = float(SHAPES[np.argmin((_moments() - moment) ** 2)])
    width = math.sqrt(math.gamma(1 / shape) / math.gamma(3 / shape))
    return shape, left * width, right * width


def _ratio(shape: float) -> float:
    return math.nan if math.isnan(shape) else math.gamma(2 / shape) / math.gamma(1 / shape)


@cache
def _moments() -> Plane:
    """Return for each of `SHAPES` the squared mean of absolute values over the mean square."""
    return np.array([math.gamma(2 / a) ** 2 / (math.gamma(1 / a) * math.gamma(3 / a)) for a in SHAPES.tolist()])
