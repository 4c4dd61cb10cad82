"""Pictures with words beside them: pixels stay as they are, each column has its title, nothing is written over them."""

import numpy as np
import pytest
from PIL import Image

from sisr.pictures.labelled import GAP, font_for, header, labelled, shortened


def noise(seed: int, width: int = 40, height: int = 30) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_pictures_stand_unchanged_in_their_cells_and_an_empty_cell_is_white() -> None:
    pictures = [noise(i) for i in range(3)]
    sheet = labelled(["a", "b"], [pictures[:2], [None, pictures[2]]])
    top = header(["a", "b"], 40, GAP).height
    places = [(GAP, top), (2 * GAP + 40, top), (2 * GAP + 40, top + 30 + GAP)]
    for picture, (x, y) in zip(pictures, places, strict=True):
        assert sheet.crop((x, y, x + 40, y + 30)).tobytes() == picture.tobytes()
    assert sheet.crop((GAP, top + 30, GAP + 40, sheet.height)).getextrema() == ((255, 255),) * 3


def test_each_column_has_its_title_and_a_caption_below() -> None:
    plain = labelled(["", ""], [[noise(0), noise(1)]])
    named = labelled(["LR", "HR"], [[noise(0), noise(1)]], [["28.1 dB", "two\nlines"]])
    assert named.height > plain.height
    dark = np.asarray(named.convert("L")) < 128
    top = plain.height - 30 - GAP
    for left in (GAP, 2 * GAP + 40):
        assert dark[:top, left : left + 40].any()
        assert dark[top + 30 :, left : left + 40].any()


@pytest.mark.parametrize("width", [40, 200, 4000])
def test_a_long_name_keeps_its_end_and_its_column(width: int) -> None:
    font = font_for(width)
    assert shortened("short", font, 4000) == "short"
    cut = shortened("models:/a-very-long-name-of-a-registered-model/" * 9 + "@champion", font, width)
    assert font.getlength(cut) <= width
    assert cut.startswith("...")


def test_letters_grow_with_the_pictures() -> None:
    assert font_for(4000).getlength("title") > 3 * font_for(200).getlength("title")
