"""Folders of pairs, for tests."""

from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sisr.data.bicubic import resize

Pixels = NDArray[np.uint8]


def picture(seed: int = 0, height: int = 48, width: int = 64) -> Pixels:
    """Return a smooth picture (h, w, 3) that no other seed gives."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def shrunk(hr: Pixels, scale: int = 2) -> Pixels:
    """Return what MATLAB makes of a picture that is cut to a multiple of the scale."""
    height, width = (side // scale * scale for side in hr.shape[:2])
    return resize(np.ascontiguousarray(hr[:height, :width]), Fraction(1, scale))


def save(pixels: Pixels, path: Path) -> Path:
    """Write a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def pairs(folder: Path, count: int = 12, scale: int = 2, lr: str = "LR/{}.png", hr: str = "HR/{}.png") -> Path:
    """Write so many pairs under these names and return the folder."""
    for number in range(count):
        large = picture(number)
        save(large, folder / hr.format(number))
        save(shrunk(large, scale), folder / lr.format(number))
    return folder
