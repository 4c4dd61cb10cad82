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


def swd(sr: Sequence[Patches], hr: Sequence[Patches]) -> float:
    """Return the distance between the images that `sr` and `hr` are patches of; 0 for equal ones.

    The same numbers in the same order give the same value to the last bit on one machine.
    """
    names = list(dict.fromkeys(name for image in hr for name in image))
    return float(np.mean([_between(*(_together(images, name) for images in (sr, hr))) for name in names]))


def _together(images: Sequence[Patches], name: str) -> NDArray[np.float64]:
    return np.concatenate([image[name] for image in images if name in image]).astype(np.float64)


def _between(sr: NDArray[np.float64], hr: NDArray[np.float64]) -> float:
    """Return the sliced distance of two sets of patches (n, 3, 49), times 1000."""
    mean, deviation = hr.mean(axis=(0, 2), keepdims=True), hr.std(axis=(0, 2), keepdims=True)
    random = generator(SEED, "directions", 0, 0).standard_normal((DIRECTIONS, 3 * PATCH**2))
    directions = random / np.linalg.norm(random, axis=1, keepdims=True)
    normal = [((each - mean) / np.maximum(deviation, 1e-6)).reshape(len(each), -1) for each in (sr, hr)]
    ours, theirs = (np.sort(directions @ each.T, axis=1) for each in normal)
    return float(1000 * np.abs(ours - theirs).mean())


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
