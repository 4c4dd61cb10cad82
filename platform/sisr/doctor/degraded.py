"""A picture of what a degradation makes of a source's images, for the eye that no test replaces."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sisr.config import degradation as choice
from sisr.config.wording import printable
from sisr.config.yaml import parse
from sisr.data import degradations
from sisr.data.draws import Draws
from sisr.data.images import RefusedError, decode
from sisr.data.sources import ImageFile, by_name
from sisr.data.sources.catalogue import open_source
from sisr.disk import atomic
from sisr.errors import ConfigError, DataError
from sisr.pictures.labelled import labelled

ROWS, COLUMNS = 4, 6
SIDE = 192  # px, of an hr example
SCALE = 4
FILES = 48  # looked through at most


def degradation_of(written: str) -> choice.Degradation:
    """Return the degradation that an option names: a name, or a mapping in YAML.

    Raises:
        ConfigError: It is none.
    """
    try:
        found: choice.Degradation | None = choice.read(parse(written, "--degradation"))
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"--degradation {error}, got '{written}'") from None
    if found is None:
        raise ConfigError(f"--degradation wants {choice.WANTED}")
    return found


def save_sheet(spec: str, degradation: choice.Degradation, path: Path, seed: int = 0) -> None:
    """Write a PNG of 4 x 6 examples of a source: hr on the left, and lr, 4 times enlarged by repetition.

    Raises:
        DataError: There is no such source, or none of its images is large enough.
        DiskError: The file can't be written.
    """
    source, count = open_source(spec), ROWS * COLUMNS
    files = sorted({file.name: file for file in (*source.files, *source.held_out)}.values(), key=by_name)
    images = _large(files, count)
    if not images:
        raise DataError(f"{printable(spec)}: none of {FILES} images holds an example of {SIDE}x{SIDE} px")
    import torch

    draws = Draws(seed, 0, 0, count)
    places = draws.uniform("window", 2).tolist()
    windows = [_window(images[i % len(images)], *place) for i, place in enumerate(places)]
    hr = torch.from_numpy(np.stack(windows)).permute(0, 3, 1, 2) / 255
    lr = degradations.degrade(degradation, hr, SCALE, draws).repeat_interleave(SCALE, 2).repeat_interleave(SCALE, 3)
    both = (torch.stack([hr, lr], dim=1).flatten(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    cells = [Image.fromarray(cell) for cell in both]
    titles = [f"HR {SIDE} px", f"LR {SIDE // SCALE} px, {degradation.kind}"] * COLUMNS
    sheet = labelled(titles, [cells[i : i + 2 * COLUMNS] for i in range(0, len(cells), 2 * COLUMNS)])
    with atomic.file(path) as unfinished:
        sheet.save(unfinished, format="PNG")


def _large(files: Sequence[ImageFile], count: int) -> list[NDArray[np.uint8]]:
    """Return up to `count` images that hold a whole example, of files from all over the source."""
    found: list[NDArray[np.uint8]] = []
    for file in files[:: max(1, len(files) // FILES)]:
        try:
            pixels = decode(file.path)
        except RefusedError:
            continue  # the table names it
        if min(pixels.shape[:2]) >= SIDE and len(found) < count:
            found.append(pixels)
    return found


def _window(pixels: NDArray[np.uint8], across: float, down: float) -> NDArray[np.uint8]:
    """Return the window whose place is given by two numbers in [0, 1)."""
    y, x = (int(part * (side - SIDE + 1)) for part, side in zip((down, across), pixels.shape[:2], strict=True))
    return pixels[y : y + SIDE, x : x + SIDE]
