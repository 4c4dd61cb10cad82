"""Colours under transparency, which files leave to chance, replaced before an image is enlarged.

A generator mixes neighbouring pixels, and would mix hidden colours into visible ones: a fringe. To multiply colours by
alpha is exact for a linear kernel only. So every pixel gets the alpha-weighted mean of the visible colours around it,
as far as it is more transparent than they are. What is opaque, or transparent evenly, stays as it is.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sisr.data.images import Picture

ROWS = 256  # px at a time, so that a large picture needs little memory; a multiple of BLOCK
BLOCK = 4  # px, side of the squares in which alpha is compared

Array = NDArray[np.float32]


def spread_colours(picture: Picture) -> Picture:
    """Return the picture with colours that are fit to be enlarged; the same picture where all of it is opaque."""
    if picture.alpha is None or picture.alpha.min() == 255:
        return picture
    height, width = picture.alpha.shape
    strips = [slice(top, top + ROWS) for top in range(0, height, ROWS)]
    halved = [_halved(*_weighted(picture, rows)) for rows in strips]
    means = _means(*(np.concatenate(parts) for parts in zip(*halved, strict=True)))
    pixels = np.empty_like(picture.pixels)
    for rows in strips:
        around = _doubled(means[rows.start // 2 : rows.stop // 2])[: height - rows.start, :width]
        own = _relative_alpha(picture.alpha[rows])[..., None]
        pixels[rows] = np.rint(own * picture.pixels[rows] + (1 - own) * around)
    return replace(picture, pixels=pixels)


def native(picture: Picture, rows: slice) -> NDArray[np.uint8]:
    """Return rows of a picture with the channels that its file had: (h, w, 1 .. 4)."""
    colour = picture.pixels[rows, :, :1] if picture.grey else picture.pixels[rows]
    return colour if picture.alpha is None else np.concatenate([colour, picture.alpha[rows, :, None]], axis=2)


def deep_colours(picture: Picture, spread: Picture) -> NDArray[np.uint16]:
    """Return the picture's pixels in 16 bits, with those of `spread` where `spread_colours` has replaced them."""
    assert picture.deep is not None
    if spread is picture:
        return picture.deep
    replaced = (spread.pixels != picture.pixels).any(axis=2, keepdims=True)
    colours = np.where(replaced, spread.pixels * np.uint16(257), picture.deep[..., :3])
    return np.concatenate([colours, picture.deep[..., 3:]], axis=2)


def _weighted(picture: Picture, rows: slice) -> tuple[Array, Array]:
    """Return colours times alpha, (h, w, 3), and alpha, (h, w, 1)."""
    assert picture.alpha is not None
    alpha = picture.alpha[rows, :, None].astype(np.float32)
    return picture.pixels[rows] * alpha, alpha


def _means(colours: Array, weights: Array) -> Array:
    """Return the mean colour of each pixel; of one without weight, that of the smallest square around it with some."""
    if len(weights) * weights.shape[1] > 1 and not weights.all():
        coarse = _doubled(_means(*_halved(colours, weights)))[: len(weights), : weights.shape[1]]
    else:
        coarse = np.zeros((1, 1, 3), np.float32)
    return np.where(weights > 0, colours / np.maximum(weights, 1), coarse)


def _halved(*images: Array) -> tuple[Array, ...]:
    """Return the sums of 2 x 2 pixels of each image."""
    return tuple(_blocks(image, 2).sum(axis=(1, 3)) for image in images)


def _doubled(image: Array) -> Array:
    return image.repeat(2, axis=0).repeat(2, axis=1)


def _relative_alpha(alpha: NDArray[np.uint8]) -> Array:
    """Return alpha as a fraction of the largest in its square; 0 where all is transparent."""
    largest = _blocks(alpha[..., None], BLOCK).max(axis=(1, 3))[..., 0]
    most = largest.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)[: len(alpha), : alpha.shape[1]]
    return alpha / np.maximum(most, 1).astype(np.float32)


def _blocks(image: NDArray[np.generic], side: int) -> Array:
    """Return (rows, side, columns, side, channels): squares, those at the edge filled up with zeros."""
    height, width, channels = image.shape
    padded = np.pad(image, ((0, -height % side), (0, -width % side), (0, 0)))
    return padded.reshape(padded.shape[0] // side, side, padded.shape[1] // side, side, channels)
