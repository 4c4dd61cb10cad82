"""Folders that hold low-resolution images beside their originals: which belong together, and how lr was made from hr.

The field's commonest quarrel is about the bicubic that made the lr images: a model trained on one kernel's images is
measured on another's. Mean differences of the kernels from MATLAB's, in grey levels, on photographs: Pillow 0.2,
OpenCV and torch without antialiasing 6 to 10 (other kernels: 1.3 and more).
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from sisr.data.bicubic import resize
from sisr.data.images import decode

Pixels = NDArray[np.uint8]  # (h, w, 3)
SCALES = (2, 3, 4, 8)
SAME = 0.15  # mean difference in grey levels up to which lr was made by a kernel, rounding apart; Pillow's from
# MATLAB's is 0.17 at least
UNRELATED = 20.0  # from here on two images only share a name
MARK = re.compile(r"(?i)(?:[_.-]?(?:lr|hr|gt|lq|hq|srf)(?=[_.-]|$)|[_.-]?x[2348](?=[_.-]|$)|[_.-][2348](?=[_.-]|$))")


@dataclass(frozen=True)
class Pair:
    """One picture in two sizes."""

    lr: str  # file name in its source
    hr: str
    scale: int  # hr side / lr side


def find_pairs(sizes: Mapping[str, tuple[int, int]]) -> list[Pair]:
    """Return the pairs among files, by name: `LR/x4/a.png` and `HR/a.png`, `ax4.png` and `a.png`, `a_LR` and `a_HR`.

    Args:
        sizes: (width, height) by file name.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(sizes):
        groups[MARK.sub("", PurePosixPath(name).stem) or name].append(name)
    found = []
    for names in groups.values():
        largest = max(names, key=lambda name: sizes[name])
        for name in names:
            scale = _scale(sizes[name], sizes[largest])
            if scale:
                found.append(Pair(name, largest, scale))
    return found


def _scale(lr: tuple[int, int], hr: tuple[int, int]) -> int | None:
    """Return the scale by which hr, cut to a multiple of it, is larger than lr in both directions."""
    return next((s for s in SCALES if (hr[0] // s, hr[1] // s) == lr), None)


def kernels(hr: Pixels, scale: int) -> dict[str, Pixels]:
    """Return hr shrunk by each kernel that lr images are made with, by name; hr's sides are multiples of the scale."""
    picture, size = Image.fromarray(hr), (hr.shape[1] // scale, hr.shape[0] // scale)
    planes = torch.tensor(hr).permute(2, 0, 1)[None].double()
    aliased = functional.interpolate(planes, scale_factor=1 / scale, mode="bicubic", antialias=False)[0]
    return {
        "MATLAB bicubic": resize(hr, Fraction(1, scale)),
        "Pillow bicubic": np.asarray(picture.resize(size, Image.Resampling.BICUBIC)),
        "OpenCV bicubic, without antialiasing": aliased.round().clamp(0, 255).byte().permute(1, 2, 0).numpy(),
        "Pillow Lanczos": np.asarray(picture.resize(size, Image.Resampling.LANCZOS)),
        "area average": np.asarray(picture.resize(size, Image.Resampling.BOX)),
    }


def differences(lr: Pixels, hr: Pixels, scale: int) -> dict[str, float]:
    """Return by how many grey levels, on average, lr differs from hr shrunk by each kernel."""
    height, width = (side // scale * scale for side in hr.shape[:2])
    made = kernels(hr[:height, :width], scale)
    return {name: float(np.abs(lr.astype(int) - image.astype(int)).mean()) for name, image in made.items()}


def made_by(
    pairs: Sequence[Pair], paths: Mapping[str, Path], read: Callable[[Path], Pixels] = decode
) -> tuple[str | None, dict[str, float]]:
    """Return the kernel that made the lr images, None where it is none that is known, and all mean differences.

    Args:
        pairs: What to compare; a few are enough.
        paths: Where each file is.
        read: Returns a file's pixels.
    """
    each = [differences(read(paths[pair.lr]), read(paths[pair.hr]), pair.scale) for pair in pairs]
    means = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
    best = min(means, key=means.__getitem__)
    return (best if means[best] <= SAME else None), means


def by_folder(pairs: Iterable[Pair]) -> dict[tuple[str, int], list[Pair]]:
    """Return the pairs by the folder of their lr image ("." at the top) and their scale."""
    groups: dict[tuple[str, int], list[Pair]] = defaultdict(list)
    for pair in pairs:
        groups[str(PurePosixPath(pair.lr).parent), pair.scale].append(pair)
    return dict(sorted(groups.items()))
