"""Hidden colours don't bleed into visible ones when an image is enlarged."""

import io

import numpy as np
import pytest
from PIL import Image

from sisr.data.bicubic import resize
from sisr.data.images import Picture
from sisr.inference import transparency
from sisr.inference.enlarge import enlarge_bytes
from sisr.inference.tiled import Bicubic
from sisr.inference.transparency import spread_colours
from sisr.nets.pixelshuffle import PixelShuffleNet


def disc(hidden: tuple[int, int, int], colour: tuple[int, int, int] = (220, 30, 20)) -> Picture:
    """A disc with a soft edge on what is transparent."""
    y, x = np.mgrid[:45, :51]
    alpha = (255 * np.clip(16 - np.hypot(x - 24, y - 22), 0, 1)).round().astype(np.uint8)
    pixels = np.where(alpha[..., None] > 0, colour, hidden).astype(np.uint8)
    return Picture(pixels, alpha, grey=False)


def opacity(picture: Picture) -> np.ndarray:
    assert picture.alpha is not None
    return picture.alpha[..., None]


def enlarged(picture: Picture, generator) -> np.ndarray:
    """RGBA as serving and upscaling give it."""
    file = io.BytesIO()
    Image.fromarray(np.dstack([picture.pixels, opacity(picture)])).save(file, "PNG")
    return np.asarray(Image.open(io.BytesIO(enlarge_bytes(generator, file.getvalue(), ".png")[0])))


@pytest.mark.parametrize("hidden", [(0, 0, 0), (255, 255, 255), (0, 255, 0)])
def test_a_disc_keeps_its_colour_to_the_edge(hidden):
    result = enlarged(disc(hidden), Bicubic(4))
    visible = result[result[..., 3] > 0][:, :3].astype(int)
    assert np.abs(visible - (220, 30, 20)).max() <= 1


def test_a_model_s_result_does_not_depend_on_what_is_hidden():
    model = PixelShuffleNet(2).eval()
    results = [enlarged(disc(hidden), model) for hidden in ((0, 0, 0), (255, 255, 255), (0, 255, 0))]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_a_picture_laid_over_a_background_is_nearly_that_enlarged_after_laying():
    """The bicubic of colours times alpha is exact; what is weighted pixel by pixel stays close to it."""
    picture = disc((0, 0, 0))
    y, x = np.mgrid[:45, :51]
    colours = np.stack([4 * x, 5 * y, 128 + 60 * np.sin(x / 5)], axis=2)
    picture.pixels[...] = np.where(opacity(picture) > 0, colours, (0, 255, 0))
    result = enlarged(picture, Bicubic(2)).astype(float)
    shown = result[..., :3] * result[..., 3:] / 255
    exact = resize(picture.pixels * (opacity(picture) / 255), 2).clip(0, 255)
    assert np.abs(shown - exact).max() < 20
    assert np.abs(shown - exact).mean() < 0.5


def test_even_transparency_changes_no_colour():
    pixels = np.random.default_rng(0).integers(0, 256, (33, 35, 3), dtype=np.uint8)
    for alpha in (1, 128, 255):
        picture = Picture(pixels, np.full((33, 35), alpha, np.uint8), grey=False)
        np.testing.assert_array_equal(spread_colours(picture).pixels, pixels)


def test_hidden_colours_become_those_of_the_nearest_visible_pixels():
    alpha = np.zeros((64, 64), np.uint8)
    alpha[3, 5] = alpha[60, 60] = 255
    pixels = np.full((64, 64, 3), 77, np.uint8)
    pixels[3, 5], pixels[60, 60] = (200, 0, 0), (0, 0, 200)
    spread = spread_colours(Picture(pixels, alpha, grey=False)).pixels
    assert spread[0, 0].tolist() == spread[20, 20].tolist() == [200, 0, 0]
    assert spread[40, 40].tolist() == [0, 0, 200]
    assert spread[40, 0].tolist() == [100, 0, 100]


def test_a_large_picture_is_treated_like_a_small_one(monkeypatch: pytest.MonkeyPatch):
    whole = spread_colours(disc((9, 9, 9))).pixels
    monkeypatch.setattr(transparency, "ROWS", 8)
    np.testing.assert_array_equal(spread_colours(disc((9, 9, 9))).pixels, whole)
