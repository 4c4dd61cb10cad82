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

Patches = dict[str, NDArray[np.float32]]  # by level: (n, 3, 49)


def patches(image: Tensor) -> Patches:
    """Return patches of each level of an image (1, 3, h, w) in [0, 1], whose sides are at least 7 px.

    Levels are named by their place in the pyramid; the coarsest, which holds the colours, only equals coarsest ones.
    """
    return {name: _cut(level[0], number) for number, (name, level) in enumerate(_pyramid(image.float()))}


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
        found: list[list[float]] = [[] for _ in groups]
        for name in dict.fromkeys(name for image in hr for name in image):
            ours, theirs, our_images, their_images = _sorted(sr, hr, name)
            for values, group in zip(found, groups, strict=True):
                kept = [
                    each[~np.isin(images, group)].reshape(DIRECTIONS, -1)
                    for each, images in ((ours, our_images), (theirs, their_images))
                ]
                if kept[0].size:
                    values.append(float(1000 * np.abs(kept[0] - kept[1]).mean()))
        return [float(np.mean(values)) for values in found]


def build(weights: Path, device: torch.device) -> Swd:
    """Return the distance; it has no weights, and is computed on the CPU."""
    return Swd()


def _sorted(
    sr: Sequence[Patches], hr: Sequence[Patches], name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return one level's patches of all sr and of all hr, projected on each direction and sorted, (directions, n).

    Besides, for each value of either, which image it comes from.
    """
    owners = np.concatenate([np.full(len(image[name]), i) for i, image in enumerate(hr) if name in image])
    ours, theirs = (
        np.concatenate([image[name] for image in images if name in image]).astype(np.float64) for images in (sr, hr)
    )
    mean, deviation = theirs.mean(axis=(0, 2), keepdims=True), theirs.std(axis=(0, 2), keepdims=True)
    random = generator(SEED, "directions", 0, 0).standard_normal((DIRECTIONS, 3 * PATCH**2))
    directions = random / np.linalg.norm(random, axis=1, keepdims=True)
    normal = [((each - mean) / np.maximum(deviation, 1e-6)).reshape(len(each), -1) for each in (ours, theirs)]
    projected = [directions @ each.T for each in normal]
    orders = [np.argsort(each, axis=1) for each in projected]
    ours, theirs = (np.take_along_axis(each, order, axis=1) for each, order in zip(projected, orders, strict=True))
    return ours, theirs, owners[orders[0]], owners[orders[1]]


def _cut(level: Tensor, number: int) -> NDArray[np.float32]:
    """Return up to `PATCHES` patches (n, 3, 49) of a level (3, h, w), at places that depend on its size alone."""
    windows = level.unfold(1, PATCH, 1).unfold(2, PATCH, 1)
    rows, columns = windows.shape[1:3]
    random = generator(SEED, f"places {rows} {columns}", number, 0)
    places = torch.from_numpy(random.choice(rows * columns, min(PATCHES, rows * columns), replace=False)).to(
        level.device
    )
    found = windows[:, places // columns, places % columns].transpose(0, 1)
    return np.asarray(found.reshape(len(places), 3, -1).cpu().numpy(), dtype=np.float32)


def _pyramid(image: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield name and pixels of each level of a Laplacian pyramid, finest first. Burt & Adelson, 1983."""
    number = 0
    while min(image.shape[2:]) >= 2 * LEAST:
        coarse = _blurred(image)[:, :, ::2, ::2]
        yield f"band {number}", image - _enlarged(coarse, image.shape[2], image.shape[3])
        image, number = coarse, number + 1
    yield f"rest {number}", image


def _enlarged(coarse: Tensor, height: int, width: int) -> Tensor:
    spread = coarse.new_zeros(*coarse.shape[:2], height, width)
    spread[:, :, ::2, ::2] = coarse
    return 4 * _blurred(spread)


def _blurred(image: Tensor) -> Tensor:
    tap = image.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    for shape, edges in (((1, 1, 5, 1), (0, 0, 2, 2)), ((1, 1, 1, 5), (2, 2, 0, 0))):
        kernel = tap.view(shape).expand(image.shape[1], -1, -1, -1)
        image = functional.conv2d(functional.pad(image, edges, mode="reflect"), kernel, groups=image.shape[1])
    return image
