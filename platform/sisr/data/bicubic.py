"""Bicubic resampling as MATLAB's `imresize` does it, which the field's benchmarks mean by "bicubic".

For every output pixel x (from 1) of an axis resampled by s: centre u = x / s + (1 - 1 / s) / 2, kernel s * cubic(s * d)
of width 4 / s when shrinking and cubic(d) of width 4 when growing, with a = -0.5, weights normalised to sum 1. On 8-bit
images MATLAB rounds and clips after each axis, height first; that is what makes its files reproducible bit for bit.

`resize` is exact, for evaluation. `downscale` and `upscale` are the same weights in floating point for batches of
tensors, for degradations and skips inside a training step.
"""

from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Border = Literal["mirror", "replicate"]


def resize(image: NDArray[Any], scale: Fraction | float, *, border: Border = "mirror") -> NDArray[Any]:
    """Return the image resampled by `scale`, bit for bit as MATLAB's `imresize(image, scale, 'bicubic')`.

    Args:
        image: (h, w) or (h, w, c). uint8 gives uint8, rounded and clipped after each axis; floating point gives
            float64 of any range, neither rounded nor clipped.
        scale: New side / old side; sides are rounded up. Below 1 the kernel widens (antialiasing).
        border: What lies beyond the edge: `mirror` (newer MATLAB) or `replicate` (older MATLAB).

    Raises:
        ValueError: The image has another shape or type, is empty, `scale` is not positive, or `border` is another.
    """
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(f"resize wants an image (h, w) or (h, w, c) with at least one pixel, got shape {image.shape}")
    if image.dtype != np.uint8 and not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"resize wants uint8 or floating point, got {image.dtype}")
    exact = Fraction(scale).limit_denominator(10_000)
    if exact <= 0:
        raise ValueError(f"resize wants a positive scale, got {scale}")
    for axis in (0, 1):
        image = _resize_axis(image, exact, axis, border)
    return image


def upscale(lr: Tensor, scale: int) -> Tensor:
    """Return the batch enlarged `scale` times by bicubic interpolation, mirrored at the edges.

    Args:
        lr: (n, c, h, w), floating point, any device. Computed in float32 at least, also under autocast; the result
            has lr's type and is not clamped.
        scale: hr side / lr side, at least 1.
    """
    margin = 3  # px: 2 of support and one to spare; torch renormalises at the edge of what it is given, MATLAB mirrors
    rows, columns = (mirrored_index(-margin, side + margin, side, lr.device) for side in lr.shape[-2:])
    wide = lr if lr.dtype == torch.float64 else lr.float()
    wide = wide.index_select(-2, rows).index_select(-1, columns)
    size = (rows.shape[0] * scale, columns.shape[0] * scale)  # len() would fix them when a generator is exported
    sr = functional.interpolate(wide, size=size, mode="bicubic", antialias=True, align_corners=False)
    edge = margin * scale
    return sr[..., edge:-edge, edge:-edge].to(lr.dtype)


def downscale(hr: Tensor, scale: int) -> Tensor:
    """Return the batch shrunk `scale` times by antialiased bicubic interpolation, mirrored at the edges.

    Args:
        hr: (n, c, h, w), floating point, any device, h and w multiples of `scale`. Computed in float32 at least, also
            under autocast; the result has hr's type and is not clamped, and next to sharp edges leaves hr's range.
        scale: hr side / lr side, at least 1.

    Raises:
        ValueError: h or w is not a multiple of `scale`.
    """
    height, width = hr.shape[-2:]
    if height % scale or width % scale:
        raise ValueError(f"downscale by {scale} wants sides that are multiples of it, got {height}x{width}")
    wide = hr if hr.dtype == torch.float64 else hr.float()
    rows, columns = (_matrix(side, scale, wide.dtype, hr.device) for side in (height, width))
    with torch.autocast(hr.device.type, enabled=False):  # 8 bits of mantissa are too few for an image
        return (rows @ wide @ columns.T).to(hr.dtype)


@lru_cache(maxsize=64)
def _matrix(side: int, scale: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the weights of one axis as a matrix (side / scale, side): for crops faster than a sliding kernel."""
    index, weights = contributions(side, Fraction(1, scale), "mirror")
    matrix = np.zeros((len(index), side))
    np.add.at(matrix, (np.arange(len(index))[:, None], index), weights)
    with torch.inference_mode(False):  # kept for later calls, which may be in training
        return torch.from_numpy(matrix).to(device, dtype)


def cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Keys' cubic kernel, a = -0.5, at the given distances.

    Keys, "Cubic convolution interpolation for digital image processing", 1981. https://doi.org/10.1109/TASSP.1981.1163711
    """
    d = np.abs(distance)
    near = 1.5 * d**3 - 2.5 * d**2 + 1
    far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return np.where(d <= 1, near, np.where(d <= 2, far, 0.0))


def contributions(size: int, scale: Fraction, border: Border) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return which of an axis's `size` pixels make each output pixel, and how much each weighs; see `resize`.

    Both are (output size, taps); every row of weights sums to 1.
    """
    s = float(scale)
    stretch = min(s, 1.0)
    width = 4 / stretch
    out = np.arange(1, -(-size * scale.numerator // scale.denominator) + 1, dtype=np.float64)
    centre = out / s + 0.5 * (1 - 1 / s)
    taps = np.floor(centre - width / 2)[:, None] + np.arange(int(np.ceil(width)) + 2)
    weights = stretch * cubic(stretch * (centre[:, None] - taps))
    weights /= weights.sum(axis=1, keepdims=True)
    used = weights.any(axis=0)
    index = taps[:, used].astype(np.intp) - 1
    if border == "replicate":
        return np.clip(index, 0, size - 1), weights[:, used]
    if border != "mirror":
        raise ValueError(f"resize knows the borders mirror and replicate, got {border!r}")
    index %= 2 * size
    return np.where(index < size, index, 2 * size - 1 - index), weights[:, used]


def _resize_axis(image: NDArray[Any], scale: Fraction, axis: int, border: Border) -> NDArray[Any]:
    index, weights = contributions(image.shape[axis], scale, border)
    shape = [1] * image.ndim
    shape[axis] = len(index)
    total = np.zeros([len(index) if a == axis else n for a, n in enumerate(image.shape)])
    for tap in range(index.shape[1]):
        total += weights[:, tap].reshape(shape) * image.take(index[:, tap], axis=axis)
    if image.dtype != np.uint8:
        return total
    return np.clip(np.floor(total + 0.5), 0, 255).astype(np.uint8)


def mirrored_index(start: int, stop: int, size: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the indices start .. stop - 1 of an axis of `size` px; those beyond an end come back from it."""
    period = torch.full((1,), 2 * size, device=device)  # a tensor: ONNX knows no remainder by a size yet unknown
    index = torch.arange(start, stop, device=device) % period
    return torch.minimum(index, 2 * size - 1 - index)
