"""Images that are too small for a recipe's windows are refused with the setting and the value that would do."""

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sisr import recipes
from sisr.config.settings import build
from sisr.errors import DataError
from sisr.training.dataset import open_data
from sisr.training.run import Options, Run


def opened(folder: Path, recipe: str, **settings: Any) -> None:
    config = build(recipes.load(recipe).Config, settings).model_dump(mode="json")
    run = Run(name="r", recipe=recipe, config=config, options=Options(), data=str(folder))
    open_data(run, run.build_recipe())


def photographs(folder: Path, width: int, height: int) -> Path:
    folder.mkdir()
    for i in range(8):
        Image.new("RGB", (width, height), (i, 2 * i, 0)).save(folder / f"{i}.png")
    return folder


def test_what_is_too_small_for_the_default_crop_fits_with_the_value_that_is_named(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "photos", 130, 150)
    with pytest.raises(DataError, match="512x512 px; what would do: --set hr_crop=128, or --preset photos or cpu") as e:
        opened(folder, "pixelshuffle")
    side = re.search(r"hr_crop=(\d+)", str(e.value))
    assert side
    opened(folder, "pixelshuffle", hr_crop=int(side[1]))


def test_a_box_of_faces_on_photographs_is_named_and_so_is_the_preset(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "photos", 150, 150)
    with pytest.raises(DataError, match=r"--set box=null, which lets windows lie anywhere, or --preset photos or cpu"):
        opened(folder, "srez")
    opened(folder, "srez", **recipes.load("srez").Config.presets["photos"].settings)
