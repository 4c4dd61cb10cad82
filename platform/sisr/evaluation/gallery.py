"""The places where models differ most, one patch of an image each, and pictures of them: errors, contact sheets."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sisr.pictures.labelled import labelled

Pixels = NDArray[np.uint8]  # (h, w, 3) RGB, or (h, w) luma

PLACES = 3
PATCH = 96  # px of hr, side of the square in which the models' variance is largest
REGION = 320  # px of hr, side of the square around it that is kept
BRIGHTEST = 48  # grey levels of error that an error map shows in its last colour, and all beyond
COLOURS = ((0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164))  # evenly spaced
ZOOM = 2  # of a contact sheet


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
    lr: Pixels | None = None  # the same region, each px of lr repeated; None: not known

    def patch(self, region: Pixels) -> Pixels:
        """Return the patch of one of the regions."""
        return region[self.top : self.top + self.side, self.left : self.left + self.side]


class Gallery:
    """Keeps the places of the few images on which models differ most, while images come and go."""

    def __init__(self, count: int = PLACES) -> None:
        """Start with no places; `count` will be kept."""
        self._count = count
        self.places: list[Place] = []  # from the largest difference

    def add(self, image: str, hr: Pixels, sr: Sequence[Pixels], num_compared: int, lr: Pixels | None = None) -> None:
        """Look for the place of a whole image; the first `num_compared` of its sr choose it, others are shown only."""
        top, left, side, spread = most_varied(sr[:num_compared])
        self.places.append(_cut(image, [hr, *sr], lr, top, left, side, spread))
        self.places = sorted(self.places, key=lambda place: -place.spread)[: self._count]


def most_varied(images: Sequence[Pixels], side: int = PATCH) -> tuple[int, int, int, float]:
    """Return where images of one shape differ most: top, left and side of a square, their standard deviation in it.

    `side` (px) is less where an image is smaller.
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


def _cut(image: str, pictures: list[Pixels], lr: Pixels | None, top: int, left: int, side: int, spread: float) -> Place:
    height, width = pictures[0].shape[:2]
    start_row, start_column = (
        max(0, min(start + side // 2 - REGION // 2, size - REGION)) for start, size in ((top, height), (left, width))
    )
    inside = slice(start_row, start_row + REGION), slice(start_column, start_column + REGION)
    regions = [picture[inside].copy() for picture in pictures]
    small = None
    if lr is not None:
        rows, columns = (
            np.arange(first, first + shown) * of // full
            for first, shown, of, full in zip(
                (start_row, start_column), regions[0].shape, lr.shape, pictures[0].shape, strict=False
            )
        )
        small = lr[np.ix_(rows, columns)]
    return Place(image, spread, top - start_row, left - start_column, side, top, left, regions, small)


def error_map(sr: Pixels, hr: Pixels) -> Pixels:
    """Return |sr - hr|, averaged over channels, in colours (h, w, 3) from black, 0, to yellow, `BRIGHTEST` and more."""
    error = np.abs(sr.astype(np.float64) - hr)
    error = error.mean(axis=2) if error.ndim == 3 else error
    return _table()[np.rint(np.minimum(error / BRIGHTEST, 1) * 255).astype(np.uint8)]


@cache
def _table() -> NDArray[np.uint8]:
    at = np.linspace(0, len(COLOURS) - 1, 256)
    channels = [np.interp(at, range(len(COLOURS)), channel) for channel in zip(*COLOURS, strict=True)]
    return np.stack(channels, axis=1).round().astype(np.uint8)


def png(pixels: Pixels) -> bytes:
    """Return a picture as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", optimize=True)
    return file.getvalue()


def contact_sheet(place: Place, names: Sequence[str]) -> Image.Image:
    """Return one place as a picture: in columns hr and each model, with the error map below each model's patch."""
    hr, *sr = (place.patch(region) for region in place.regions)
    errors = [_enlarged(error_map(patch, hr)) for patch in sr]
    scale = [f"|SR - HR|: black 0, yellow {BRIGHTEST}"] * len(sr)  # grey levels
    return labelled(["HR", *names], [[*map(_enlarged, (hr, *sr))], [None, *errors]], [[place.image], ["", *scale]])


def _enlarged(patch: Pixels) -> Image.Image:
    repeated = patch.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)
    return Image.fromarray(repeated).convert("RGB")
