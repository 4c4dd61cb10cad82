"""JPEG, exactly as libjpeg compresses and decodes it: 4:2:0, the slow integer transform, smooth chroma upsampling.

Every step of libjpeg's is a matrix of integers, a rounding shift, or both. Here they are float64, in which these
integers are exact: the result is the same on any device, for any batch, and equal to that of a file.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from sisr.data.transfer import on_device

BITS = 13  # of libjpeg's constants of the transform behind the point
MORE_BITS = 2  # that it keeps between its two passes

# Annex K of ITU-T T.81: the steps of quality 50, by row and column of the transform.
LUMA_STEPS = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA_STEPS = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *[(99,) * 8] * 4,
)
# Times 2**16: red, green and blue to Y, Cb and Cr.
TO_YCC = ((19595, 38470, 7471), (-11059, -21709, 32768), (32768, -27439, -5329))
# Times 2**16: Cr to red, Cb and Cr to green, Cb to blue.
CR_RED, CB_GREEN, CR_GREEN, CB_BLUE = 91881, -22554, -46802, 116130


def jpeg(images: Tensor, qualities: Sequence[int]) -> Tensor:
    """Return images (n, 3, h, w) as decoded from JPEG files of libjpeg's quality, one of 1 to 100 for each image.

    They are clamped to [0, 1] and rounded to 8 bits first, as a file needs it; so is the result. Any size, any type.
    """
    if len(qualities) != len(images) or not all(1 <= quality <= 100 for quality in qualities):
        raise ValueError(f"jpeg wants {len(images)} qualities of 1 to 100, got {list(qualities)}")
    height, width = images.shape[-2:]
    levels = images.detach().double().clamp(0, 1).mul_(255).round_()
    y, cb, cr = _to_ycc(levels)
    luma, chroma = _steps(tuple(qualities), images.device)
    y = _coded(_extended(y), luma)[:, :height, :width]
    pair = _coded(_extended(_halved(torch.cat([cb, cr]))), chroma.repeat(2, 1, 1))
    pair = pair[:, : (height + 1) // 2, : (width + 1) // 2]
    cb, cr = _doubled(pair)[:, :height, :width].sub_(128).chunk(2)
    return _to_rgb(y, cb, cr).div_(255).to(images.dtype)


def steps(base: Sequence[Sequence[int]], quality: int) -> list[list[int]]:
    """Return the quantisation steps of a quality, from those of quality 50."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return [[min(255, max(1, (step * percent + 50) // 100)) for step in row] for row in base]


@lru_cache(maxsize=256)
def _steps(qualities: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the steps (n, 8, 8) of luma and of chroma."""
    with torch.inference_mode(False):  # kept for later calls, which may be in training
        made = [[steps(base, quality) for quality in qualities] for base in (LUMA_STEPS, CHROMA_STEPS)]
        luma, chroma = on_device(torch.tensor(made, dtype=torch.float64), device)
        return luma, chroma


@lru_cache(maxsize=4)
def _transform(device: torch.device) -> Tensor:
    """Return the one-dimensional transform (8, 8), frequencies by samples, as libjpeg's integers times 2**13."""
    columns = [_frequencies([int(i == j) for i in range(8)]) for j in range(8)]
    with torch.inference_mode(False):
        return on_device(torch.tensor(columns, dtype=torch.float64).T.contiguous(), device)


def _frequencies(x: Sequence[int]) -> list[int]:
    """Return the transform of 8 samples times 2**13, every constant rounded as libjpeg rounds it.

    Loeffler, Ligtenberg & Moschytz, "Practical fast 1-D DCT algorithms with 11 multiplications", 1989, figure 8.
    """

    def times(constant: float, value: int) -> int:
        return int(constant * (1 << BITS) + 0.5) * value

    sums, (r, q, p, o) = [x[i] + x[7 - i] for i in range(4)], [x[i] - x[7 - i] for i in range(4)]
    outer, inner = sums[0] + sums[3], sums[1] + sums[2]
    outer_slope, inner_slope = sums[0] - sums[3], sums[1] - sums[2]
    shared = times(0.541196100, outer_slope + inner_slope)
    all_odd = times(1.175875602, o + p + q + r)
    z1, z2 = -times(0.899976223, o + r), -times(2.562915447, p + q)
    z3, z4 = all_odd - times(1.961570560, o + q), all_odd - times(0.390180644, p + r)
    return [
        (outer + inner) << BITS,
        times(1.501321110, r) + z1 + z4,
        shared + times(0.765366865, outer_slope),
        times(3.072711026, q) + z2 + z3,
        (outer - inner) << BITS,
        times(2.053119869, p) + z2 + z4,
        shared - times(1.847759065, inner_slope),
        times(0.298631336, o) + z1 + z3,
    ]


def _coded(planes: Tensor, steps: Tensor) -> Tensor:
    """Return planes (n, h, w) of levels after transform, quantisation by `steps` (n, 8, 8), and back again."""
    n, height, width = planes.shape
    transform = _transform(planes.device)
    # As (n, rows of blocks, row, columns of blocks, column); a product works on the last axis or the last but one.
    rows = planes.sub(128).view(n, height, width // 8, 8) @ transform.T
    rows = _shifted(rows, BITS - MORE_BITS).view(n, height // 8, 8, width)
    found = _shifted(transform @ rows, BITS + MORE_BITS).view(n, height // 8, 8, width // 8, 8)
    step = steps[:, None, :, None, :]
    # The transform's scale is 8. Halves are rounded away from 0.
    index = found.abs().div_(8 * step).add_(0.5).floor_().copysign_(found)
    columns = transform.T @ index.mul_(step).view(n, height // 8, 8, width)
    columns = _shifted(columns, BITS - MORE_BITS).view(n, height, width // 8, 8)
    samples = _shifted(columns @ transform, BITS + MORE_BITS + 3)
    return samples.view(n, height, width).add_(128).clamp_(0, 255)


def _shifted(value: Tensor, bits: int) -> Tensor:
    """Return value / 2**bits in place, rounded to the nearest integer, halves up: libjpeg's DESCALE."""
    return value.mul_(2.0**-bits).add_(0.5).floor_()


@lru_cache(maxsize=4)
def _colours(device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return on_device(torch.tensor(TO_YCC, dtype=torch.float64), device)


def _to_ycc(levels: Tensor) -> list[Tensor]:
    """Return Y, Cb and Cr (n, h, w) of levels (n, 3, h, w), integers; libjpeg's `rgb_ycc_convert`."""
    n, _, height, width = levels.shape
    mixed = _colours(levels.device) @ levels.view(n, 3, -1)
    y, cb, cr = mixed.mul_(2.0**-16).view(n, 3, height, width).unbind(1)
    just_below_half = 0.5 - 2.0**-16
    return [y.add(0.5).floor_(), cb.add(128 + just_below_half).floor_(), cr.add(128 + just_below_half).floor_()]


def _to_rgb(y: Tensor, cb: Tensor, cr: Tensor) -> Tensor:
    """Return levels (n, 3, h, w) of Y and of Cb and Cr less 128, all (n, h, w); libjpeg's `ycc_rgb_convert`."""
    red = y + _shifted(cr * CR_RED, 16)
    green = y + _shifted(cb * CB_GREEN + cr * CR_GREEN, 16)
    blue = y + _shifted(cb * CB_BLUE, 16)
    return torch.stack([red, green, blue], dim=1).clamp_(0, 255)


def _extended(planes: Tensor) -> Tensor:
    """Return planes whose sides are multiples of 8: the last row and column are repeated."""
    height, width = planes.shape[-2:]
    return functional.pad(planes[:, None], (0, -width % 8, 0, -height % 8), mode="replicate")[:, 0]


def _halved(planes: Tensor) -> Tensor:
    """Return planes (n, h, w) averaged over 2 x 2 pixels, sides rounded up; libjpeg's `h2v2_downsample`.

    Whether an average between two integers goes up depends on the column: 1 / 4 is added in even ones, 1 / 2 in odd.
    """
    height, width = planes.shape[-2:]
    # libjpeg repeats the last column before it averages, and of rows only the one that makes their number even.
    padded = functional.pad(planes[:, None], (0, -width % 16, 0, height % 2), mode="replicate")[:, 0]
    sums = padded[:, 0::2, 0::2] + padded[:, 0::2, 1::2] + padded[:, 1::2, 0::2] + padded[:, 1::2, 1::2]
    bias = 1 + torch.arange(sums.shape[-1], device=planes.device) % 2
    return sums.add_(bias).mul_(0.25).floor_()


def _doubled(planes: Tensor) -> Tensor:
    """Return planes (n, h, w) at twice the size, each pixel 9/16, 3/16, 3/16 and 1/16 of the nearest four.

    libjpeg's `h2v2_fancy_upsample`; it repeats the pixels of images of up to 4 px width instead.
    """
    height, width = planes.shape[-2:]
    if width <= 2:
        return planes.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    around = functional.pad(planes[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    middle = 3 * around[:, 1:-1]
    tall = torch.stack([middle + around[:, :-2], middle + around[:, 2:]], dim=2).view(-1, 2 * height, width + 2)
    middle = 3 * tall[..., 1:-1]
    left, right = middle + tall[..., :-2] + 8, middle + tall[..., 2:] + 7
    return torch.stack([left, right], dim=-1).view(-1, 2 * height, 2 * width).mul_(1 / 16).floor_()
