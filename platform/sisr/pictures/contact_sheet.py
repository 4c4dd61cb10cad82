"""How a sample picture is divided: a header with a title above each column, then one row of equal cells for each image.

Training makes these pictures; what shows them needs no torch to take them apart.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from sisr.errors import CheckpointError, DataError

FOLDER = Path("samples", "val")  # in a run's folder; `RunFolder.samples` and the name of the evaluation
COLUMNS = ("LR", "bicubic", "SR", "HR")
CELL = 128  # px, largest side of one picture
HEADER = 16  # px


@dataclass(frozen=True)
class Layout:
    """How a sample picture is divided, in px."""

    header: int
    columns: int
    width: int  # of the whole picture
    row_height: int

    @property
    def column_width(self) -> int:
        """Width of one cell."""
        return self.width // self.columns

    def count_rows(self, size: tuple[int, int]) -> int:
        """Return how many rows a picture of this (width, height) holds; 0: it is divided in another way."""
        rows, rest = divmod(size[1] - self.header, self.row_height)
        return 0 if rest or size[0] != self.width else rows


def pictures(folder: Path) -> dict[int, Path]:
    """Return the sample pictures in a run's folder, by step and in its order."""
    named = ((re.fullmatch(r"step_(\d+)", path.stem), path) for path in (folder / FOLDER).glob("step_*.png"))
    found = {int(name[1]): path for name, path in named if name}
    return dict(sorted(found.items()))


def layout_of(folder: Path, picture: Path) -> Layout:
    """Return how a run's newest picture is divided.

    Raises:
        CheckpointError: The run's record can't be read.
        DataError: It is no sample picture.
    """
    width, height = size(picture)
    if height <= HEADER:
        raise DataError(f"{picture} is no sample picture: {width}x{height} px hold no row")
    return Layout(HEADER, len(COLUMNS), width, (height - HEADER) // _count_rows(folder, height - HEADER))


def _count_rows(folder: Path, height: int) -> int:
    """Return how many rows make up `height` px of a run's newest picture."""
    path = folder / "run.json"
    try:
        record = json.loads(path.read_text())
        most = min(int(record["run"]["options"]["sample_rows"]), int(record["data"]["held_out"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} can't be read ({error!r}); restore it") from error
    # Held-out images that are too small have no row, so there may be fewer.
    fitting = [rows for rows in range(most, 0, -1) if height % rows == 0 and height // rows <= CELL]
    return fitting[0] if fitting else 1


def read(path: Path) -> Image.Image:
    """Return a sample picture in RGB.

    Raises:
        DataError: The file can't be decoded.
    """
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path} can't be read ({error}); delete it, or leave it out with --steps") from error


def size(path: Path) -> tuple[int, int]:
    """Return (width, height) of a picture in px.

    Raises:
        DataError: It is none.
    """
    try:
        with Image.open(path) as picture:
            return picture.size
    except UnidentifiedImageError as error:
        raise DataError(f"{path} is no picture; delete it, or leave it out with --steps") from error
