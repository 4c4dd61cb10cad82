"""The places where models differ most: one patch of an image each, and what is around it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # (h, w, 3) RGB, or (h, w) luma

PLACES = 3
PATCH = 96  # px of hr, side of the square in which the models' variance is largest
REGION = 320  # px of hr, side of the square around it that is kept


@dataclass(frozen=True)
class Place:
    """A patch of one image, in px of hr, and the pixels around it."""

    image: str
    spread: float  # of the models in the patch: standard deviation in grey levels (root of the mean variance)
    top: int  # of the patch in the region
    left: int
    side: int
    row: int  # of the patch in the image
    column: int
    regions: list[Pixels]  # hr, then each model's sr

    def patch(self, region: Pixels) -> Pixels:
        """Return the patch of one of the regions."""
        return region[self.top : self.top + self.side, self.left : self.left + self.side]


class Gallery:
    """Keeps the places of the few images on which models differ most, while images come and go."""

    def __init__(self, count: int = PLACES) -> None:
        """Start with no places; `count` will be kept."""
        self._count = count
        self.places: list[Place] = []  # from the largest difference

    def add(self, image: str, hr: Pixels, sr: Sequence[Pixels], num_compared: int) -> None:
        """Look for the place of one image.

        Args:
            image: Its name.
            hr: The whole image.
            sr: What each model made of it.
            num_compared: The first so many of them choose the place; the others are shown only.
        """
        top, left, side, spread = most_varied(sr[:num_compared])
        self.places.append(_cut(image, [hr, *sr], top, left, side, spread))
        self.places = sorted(self.places, key=lambda place: -place.spread)[: self._count]


def most_varied(images: Sequence[Pixels], side: int = PATCH) -> tuple[int, int, int, float]:
    """Return where images differ most: top, left and side of a square, and their standard deviation in it.

    Args:
        images: Two or more of one shape.
        side: px, of the square; less where an image is smaller.
    """
    side = min(side, *images[0].shape[:2])
    total, squares = np.zeros(images[0].shape, np.float32), np.zeros(images[0].shape, np.float32)
    for image in images:  # one at a time: together they may be large
        levels = image.astype(np.float32)
        total += levels
        squares += levels**2
    variance = (squares - total**2 / len(images)) / len(images)
    means = _box_means(variance if variance.ndim == 2 else variance.mean(axis=2), side)
    top, left = np.unravel_index(int(means.argmax()), means.shape)
    return int(top), int(left), side, float(np.sqrt(max(means[top, left], 0)))


def _box_means(plane: NDArray[Any], side: int) -> NDArray[np.float64]:
    """Return the mean of every square of a plane, by its top left corner."""
    sums = np.zeros((plane.shape[0] + 1, plane.shape[1] + 1))
    sums[1:, 1:] = plane.astype(np.float64).cumsum(axis=0).cumsum(axis=1)
    boxes = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return boxes / side**2


def _cut(image: str, pictures: list[Pixels], top: int, left: int, side: int, spread: float) -> Place:
    height, width = pictures[0].shape[:2]
    start_row, start_column = (
        max(0, min(start + side // 2 - REGION // 2, size - REGION)) for start, size in ((top, height), (left, width))
    )
    inside = slice(start_row, start_row + REGION), slice(start_column, start_column + REGION)
    regions = [picture[inside].copy() for picture in pictures]
    return Place(image, spread, top - start_row, left - start_column, side, top, left, regions)
