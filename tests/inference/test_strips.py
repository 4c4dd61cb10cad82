"""Pictures enlarged strip by strip."""

import numpy as np
import pytest
import torch
from torch import nn

from sisr.data.bicubic import resize
from sisr.data.images import Picture
from sisr.inference.enlarge import Enlargement, native
from sisr.inference.tiled import Bicubic
from sisr.inference.transparency import spread_colours
from sisr.recipe import Generator, Tiling


class Nearest(Generator):
    """Repeats every pixel and adds an offset of its own to each channel."""

    tiling = Tiling(2, halo=0)

    def __init__(self, *offsets: float) -> None:
        super().__init__()
        self.offsets = nn.Parameter(torch.tensor(offsets or (0.0, 0.0, 0.0)).view(3, 1, 1) / 255)

    def forward(self, lr):
        return lr.repeat_interleave(2, 2).repeat_interleave(2, 3) + self.offsets


def picture(height: int = 40, width: int = 37, *, alpha: bool = False, grey: bool = False) -> Picture:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if grey:
        pixels = pixels[..., :1].repeat(3, axis=2)
    transparency = rng.integers(0, 256, (height, width), dtype=np.uint8) if alpha else None
    return Picture(pixels, transparency, grey, "", ())


def enlarged(generator: Generator, original: Picture, tile: int | None = None) -> np.ndarray:
    return np.concatenate([s.pixels for s in Enlargement(generator, original, tile).strips()])


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("alpha", [False, True])
def test_channels_are_those_of_the_picture(grey, alpha):
    result = enlarged(Nearest(), picture(grey=grey, alpha=alpha))
    assert result.shape == (80, 74, (1 if grey else 3) + alpha)
    assert result.dtype == np.uint8


def test_colours_pass_through_unchanged():
    original = picture()
    assert np.array_equal(enlarged(Nearest(), original), original.pixels.repeat(2, axis=0).repeat(2, axis=1))


def test_grey_is_the_mean_of_what_comes_back():
    original = picture(grey=True)
    original.pixels[:] = 100
    assert np.unique(enlarged(Nearest(6, 3, 0), original)).tolist() == [103]


def test_values_beyond_white_are_clipped():
    assert enlarged(Nearest(400, 400, 400), picture()).min() == 255


def test_alpha_is_matlabs_bicubic():
    original = picture(alpha=True)
    assert original.alpha is not None
    assert np.array_equal(enlarged(Nearest(), original)[..., 3], resize(original.alpha, 2))


@pytest.mark.parametrize("tile", [1, 8, 17, 39])
def test_tiles_leave_no_seams(tile):
    original = picture(alpha=True)
    whole = enlarged(Bicubic(3), original, tile=0)
    assert np.abs(enlarged(Bicubic(3), original, tile).astype(int) - whole).max() <= 1


def test_strips_follow_each_other_without_gap():
    strips = list(Enlargement(Nearest(), picture(), tile=9).strips())
    edges = [(s.start, s.stop) for s in strips]
    assert [start for start, _ in edges] == [0, *(stop for _, stop in edges[:-1])]
    assert edges[-1][1] == 40


def test_the_comparison_is_pixels_then_bicubic_then_the_model():
    original = picture(alpha=True, grey=True)
    enlargement = Enlargement(Nearest(), original, tile=9)
    rows = np.concatenate([enlargement.beside(s) for s in enlargement.strips()])
    nearest, smooth, made = np.split(rows, 3, axis=1)
    stacked = native(original, slice(None))
    assert stacked.shape == (40, 37, 2)
    assert np.array_equal(nearest, stacked.repeat(2, axis=0).repeat(2, axis=1))
    assert np.array_equal(smooth, resize(native(spread_colours(original), slice(None)), 2))
    assert np.array_equal(made[..., 0], spread_colours(original).pixels[..., 0].repeat(2, axis=0).repeat(2, axis=1))
