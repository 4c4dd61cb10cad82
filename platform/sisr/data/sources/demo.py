"""The photographs that come with scikit-image; every other picture of it is a drawing, a plot or a mask."""

from importlib.util import find_spec
from pathlib import Path

from sisr.data.sources import ImageFile, Source
from sisr.errors import DataError

TRAIN = (
    "brick.png",
    "camera.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "ihc.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "page.png",
    "rocket.jpg",
)
HELD_OUT = ("astronaut.png", "chelsea.png", "coffee.png")


def open_demo() -> Source:
    """Return the photographs.

    Raises:
        DataError: scikit-image is not installed, or lacks some of them.
    """
    package = find_spec("skimage")
    if package is None or package.origin is None:
        raise DataError("the demo's photographs come with scikit-image: pip install scikit-image")
    folder = Path(package.origin).resolve().parent / "data"
    train, held = ([ImageFile(folder / name, name) for name in names] for names in (TRAIN, HELD_OUT))
    missing = [file.name for file in (*train, *held) if not file.path.is_file()]
    if missing:
        raise DataError(f"scikit-image in {folder} lacks {', '.join(missing)}: install the version in constraints.txt")
    return Source("demo", train, held)
