"""Sliced Wasserstein distance between the patches of two sets of images: a perceptual distance without weights.

Karras et al., "Progressive Growing of GANs", 2018, section 5. https://arxiv.org/abs/1710.10196

Each image becomes a Laplacian pyramid down to 16 px. At each level 7x7 patches of all sr and of all hr images are
compared as two sets: projected on 256 fixed directions, sorted, and subtracted. Blur lacks the spread of the fine
levels, wrong texture lacks its shape; where in the image a patch lies does not matter. Times 1000, mean of the levels.

Unlike the authors' program: places and directions are fixed, the same places in sr as in hr; 256 instead of 128 patches
per image and level, for there are few images; colours are normalised by hr's mean and deviation in both sets, so that
missing contrast counts.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sisr.data.draws import generator

SEED = 20_180_226  # of the places and directions
LEAST = 16  # px, shorter side of the coarsest level
PATCH = 7  # px
PATCHES = 256  # per image and level, where there are so many
DIRECTIONS = 256
AT_ONCE = 32  # directions projected on at a time: memory

Patches = dict[str, NDArray[np.float32]]  # by level: (n, 3, 49)


def patches(image: Tensor) -> Patches:
    """Return patches of each level of an image (1, 3, h, w) in [0, 1], whose sides are at least 7 px.

    Levels are named by their place in the pyramid; the coarsest, which holds the colours, only equals coarsest ones.
    """
    found = {}
    for number, (name, level, coarse) in enumerate(_pyramid(image[0].float())):
        height, width = level.shape[1:]
        top, left = (torch.from_numpy(each).to(level.device) for each in _places(height, width, number))
        patch = _cut(level, top, left)
        if coarse is not None:
            patch = patch - _cut_enlarged(coarse, height, width, top, left)
        found[name] = np.asarray(patch.flatten(2).transpose(0, 1).cpu().numpy(), dtype=np.float32)
    return found


class Swd:
    """The distance; the same patches in the same order give the same value to the last bit on one machine."""

    name, stamp, power = "swd", "swd-laplacian-7x7-x1000", 1

    def evidence(self, sr: Tensor, hr: Tensor) -> tuple[Patches, Patches]:
        return patches(sr), patches(hr)

    def value(self, evidence: Sequence[tuple[Patches, Patches]]) -> float:
        return self.values_without(evidence, [[]])[0]

    def values_without(
        self, evidence: Sequence[tuple[Patches, Patches]], groups: Sequence[Sequence[int]]
    ) -> list[float]:
        sr, hr = [sr for sr, _ in evidence], [hr for _, hr in evidence]  # colours are normalised as those of all images
        kept = np.ones((len(groups), len(evidence)), dtype=bool)
        for row, group in zip(kept, groups, strict=True):
            row[list(group)] = False
        found: list[list[float]] = [[] for _ in groups]
        for name in dict.fromkeys(name for image in hr for name in image):
            owners = np.concatenate([np.full(len(image[name]), i) for i, image in enumerate(hr) if name in image])
            for values, total, mask in zip(found, _totals(*_normal(sr, hr, name), owners, kept), kept, strict=True):
                if count := np.count_nonzero(mask[owners]):
                    values.append(1000 * total / (DIRECTIONS * count))
        return [float(np.mean(values)) for values in found]


def build(weights: Path, device: torch.device) -> Swd:
    """Return the distance; it has no weights, and is computed on the CPU."""
    return Swd()


def _normal(sr: Sequence[Patches], hr: Sequence[Patches], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return one level's patches of all sr and of all hr, (n, 147), their colours normalised by those of hr."""
    ours, theirs = (
        np.concatenate([image[name] for image in images if name in image]).astype(np.float64) for images in (sr, hr)
    )
    mean, deviation = theirs.mean(axis=(0, 2), keepdims=True), theirs.std(axis=(0, 2), keepdims=True)
    ours, theirs = (((each - mean) / np.maximum(deviation, 1e-6)).reshape(len(each), -1) for each in (ours, theirs))
    return ours, theirs


def _totals(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], owners: NDArray[np.int64], kept: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return for each group of images the sum, over all directions, of the distances between the sorted projections.

    Args:
        ours: Patches of sr, (n, 147).
        theirs: Of hr, at the same places.
        owners: (n,); the image that each patch comes from.
        kept: (groups, images); which images are in each group.
    """
    random = generator(SEED, "directions", 0, 0).standard_normal((DIRECTIONS, 3 * PATCH**2))
    directions = random / np.linalg.norm(random, axis=1, keepdims=True)
    totals = np.zeros(len(kept))
    for start in range(0, DIRECTIONS, AT_ONCE):
        projected = [directions[start : start + AT_ONCE] @ each.T for each in (ours, theirs)]
        if kept.all():
            totals += np.abs(np.sort(projected[0]) - np.sort(projected[1])).sum()
            continue
        orders = [np.argsort(each, axis=1) for each in projected]
        ordered = [np.take_along_axis(*both, axis=1) for both in zip(projected, orders, strict=True)]
        for number, mask in enumerate(kept):
            left = [each[mask[owners[order]]] for each, order in zip(ordered, orders, strict=True)]
            totals[number] += np.abs(left[0] - left[1]).sum()
    return totals


def _places(rows: int, columns: int, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the upper left corners of up to `PATCHES` patches of a level, which depend on its size alone."""
    rows, columns = rows - PATCH + 1, columns - PATCH + 1
    random = generator(SEED, f"places {rows} {columns}", number, 0)
    places = random.choice(rows * columns, min(PATCHES, rows * columns), replace=False)
    return places // columns, places % columns


def _cut(level: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """Return patches (3, n, 7, 7) of a level (3, h, w)."""
    span = torch.arange(PATCH, device=level.device)
    return level[:, (top[:, None] + span)[:, :, None], (left[:, None] + span)[:, None]]


def _cut_enlarged(coarse: Tensor, height: int, width: int, top: Tensor, left: Tensor) -> Tensor:
    """Return patches (3, n, 7, 7) of the next coarser level (3, h / 2, w / 2) enlarged to height x width.

    Only they are computed: each of their pixels is made of at most 3 x 3 of the coarser level.
    """
    span = torch.arange(PATCH, device=coarse.device)
    rows, row_weights = _taps(top[:, None] + span, height)
    columns, column_weights = _taps(left[:, None] + span, width)
    around = coarse[:, rows[:, :, None, :, None], columns[:, None, :, None, :]]
    return torch.einsum("cnijab,nia,njb->cnij", around, row_weights.to(coarse), column_weights.to(coarse))


def _taps(index: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return which coarser pixels make the pixels `index` of an axis of `size` px, (..., 3), and how much each weighs.

    Zeros between the coarser pixels, blurred by (1, 4, 6, 4, 1) / 8; beyond an edge both are mirrored at its pixel.
    """
    taps = index[..., None] // 2 + torch.tensor([-1, 0, 1], device=index.device)
    even, odd = (torch.tensor(each, device=index.device) / 8 for each in ([1.0, 6.0, 1.0], [0.0, 4.0, 4.0]))
    weights = torch.where(index[..., None] % 2 == 0, even, odd)
    place = (2 * taps).abs()
    place = torch.where(place >= size, 2 * (size - 1) - place, place)
    return place // 2, weights


def _pyramid(image: Tensor) -> Iterator[tuple[str, Tensor, Tensor | None]]:
    """Yield for each level, finest first, its name, its image and the next coarser one. Burt & Adelson, 1983."""
    number = 0
    while min(image.shape[1:]) >= 2 * LEAST:
        coarse = _halved(_halved(image, 1), 2)
        yield f"band {number}", image, coarse
        image, number = coarse, number + 1
    yield f"rest {number}", image, None


def _halved(image: Tensor, axis: int) -> Tensor:
    """Return every second pixel along an axis, after a blur by (1, 4, 6, 4, 1) / 16 that is mirrored at the edges."""
    size = image.shape[axis]
    edges = (0, 0, 2, 2) if axis == 1 else (2, 2, 0, 0)
    padded = functional.pad(image[None], edges, mode="reflect")[0]
    taps = [padded.narrow(axis, tap, size)[(slice(None),) * axis + (slice(None, None, 2),)] for tap in range(5)]
    return (taps[0] + taps[4] + 4 * (taps[1] + taps[3]) + 6 * taps[2]) / 16
