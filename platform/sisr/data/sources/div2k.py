"""DIV2K as it is published: `DIV2K_train_HR`, and perhaps `DIV2K_valid_HR` beside it.

Agustsson and Timofte, "NTIRE 2017 Challenge on Single Image Super-Resolution: Dataset and Study", 2017.
https://data.vision.ee.ethz.ch/cvl/DIV2K/
"""

from dataclasses import replace
from pathlib import Path

from sisr.data.sources import Source, draw, first_folder, hold_out
from sisr.data.sources.folder import find_images

FOLDERS = ("DIV2K_train_HR/DIV2K_train_HR", "DIV2K_train_HR", "DIV2K/DIV2K_train_HR")


def open_layout(folder: Path) -> Source:
    """Return the photographs: training is validated on 16 of the validation images, evaluation uses all 100.

    Raises:
        DataError: There are no images.
    """
    train = find_images(first_folder(folder, FOLDERS))
    valid = train[0].path.parent.parent / "DIV2K_valid_HR"
    if not valid.is_dir():
        return Source("div2k", *hold_out(train))
    held = [replace(file, name=f"DIV2K_valid_HR/{file.name}") for file in find_images(valid)]
    return Source("div2k", train, draw(held), held)
