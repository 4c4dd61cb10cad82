"""Folders that hold low-resolution images beside their originals: which belong together, and how lr was made from hr.

The field's commonest quarrel is about the bicubic that made the lr images: a model trained on one kernel's images is
measured on another's. Mean differences of the kernels from MATLAB's, in grey levels, on photographs: Pillow 0.2,
OpenCV and torch without antialiasing 6 to 10 (other kernels: 1.3 and more).
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from sisr.config.wording import printable
from sisr.data.bicubic import resize
from sisr.data.formats import READ
from sisr.data.images import decode
from sisr.data.sources import ImageFile
from sisr.data.store import Store
from sisr.errors import DataError

Pixels = NDArray[np.uint8]  # (h, w, 3)
Size = tuple[int, int]  # width, height, px
SCALES = (2, 3, 4, 8)
SAME = 0.15  # mean difference in grey levels up to which lr was made by a kernel, rounding apart; Pillow's from
# MATLAB's is 0.17 at least
UNRELATED = 20.0  # from here on two images only share a name
COMPARED = 2  # pairs of a folder whose pixels tell whether they belong together
MARK = re.compile(r"(?i)(?:[_.-]?(?:lr|hr|gt|lq|hq|srf)(?=[_.-]|$)|[_.-]?x[2348](?=[_.-]|$)|[_.-][2348](?=[_.-]|$))")


@dataclass(frozen=True)
class Pair:
    """One picture in two sizes."""

    lr: str  # file name in its source
    hr: str
    scale: int  # hr side / lr side


@dataclass(frozen=True)
class PairedFolder:
    """Low-resolution images of one scale, and their originals."""

    folder: str  # of the low-resolution images; "." at the top
    scale: int
    pairs: list[Pair]
    faults: list[str]  # what has no partner, or not one of the right size, in words

    def warning(self, spec: str) -> str:
        """Return in words why a source must not be used as it is, and what to name instead of `spec`."""
        pair, folder = self.pairs[0], PurePosixPath(self.pairs[0].hr).parent
        instead = f"name the folder of the originals alone, {spec}/{folder}" if str(folder) != "." else "move one away"
        count = f"{len(self.pairs):,} pictures are there twice, x{self.scale} smaller in '{self.folder}'"
        return f"{spec}: {count} ({pair.lr} and {pair.hr}), and both are taken for originals: {instead}"


def find_paired(
    names: Sequence[str], size_of: Callable[[str], Size | None], read: Callable[[str], Pixels]
) -> list[PairedFolder]:
    """Return the folders that plainly hold pairs: `LR/x4/a.png` and `HR/a.png`, `ax4.png` and `a.png`, `a_LR.png`.

    Args:
        names: File names, with forward slashes.
        size_of: Returns a file's size, None where it can't be read; asked only where names belong together.
        read: Returns a file's pixels; asked for a few pairs.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        groups[_key(name)].append(name)
    if all(len(group) == 1 for group in groups.values()):
        return []
    sizes = {name: size for name in names if (size := size_of(name))}
    folders: dict[tuple[str, str, int], list[Pair]] = defaultdict(list)
    for pair in _pairs(groups.values(), sizes):
        folders[*_style(pair.lr), pair.scale].append(pair)
    return [
        PairedFolder(folder, scale, pairs, list(_faults(pairs, sizes)))
        for (folder, _, scale), pairs in sorted(folders.items())
        if any(_is_related(pair, read) for pair in pairs[:COMPARED])
    ]


def packed_pairs(store: Store) -> list[PairedFolder]:
    """Return the folders of packed images that plainly hold pairs."""
    position = {name: i for i, name in enumerate(store.names)}
    sizes = {
        name: (int(width), int(height)) for name, (_, height, width) in zip(store.names, store.shapes, strict=True)
    }
    return find_paired(store.names, sizes.get, lambda name: store[position[name]])


def refuse_pairs(spec: str, files: Sequence[ImageFile]) -> None:
    """Raise DataError if the files of a source, none of which is packed, plainly hold pairs."""
    paths = {file.name: file.path for file in files if not file.refused}
    found = find_paired(list(paths), lambda name: _header_size(paths[name]), lambda name: decode(paths[name]))
    if found:
        raise DataError(printable(found[0].warning(spec)))


def _header_size(path: Path) -> Size | None:
    """Return the size that the file's header says, not turned upright; None where it can't be read."""
    try:
        with Image.open(path, formats=[name.upper() for name in READ]) as image:
            return image.size
    except Exception:  # whoever decodes it will say what is wrong
        return None


def _pairs(groups: Iterable[list[str]], sizes: dict[str, Size]) -> Iterator[Pair]:
    for group in groups:
        there = [name for name in group if name in sizes]
        for name in there:
            largest = max(there, key=sizes.__getitem__)
            if scale := next((s for s in SCALES if _shrunk(sizes[largest], s) == sizes[name]), None):
                yield Pair(name, largest, scale)


def _key(name: str) -> str:
    """Return what the names of a picture in two sizes have in common."""
    return MARK.sub("", PurePosixPath(name).stem) or name


def _style(name: str) -> tuple[str, str]:
    """Return a file's folder and how its name is marked: the same for all low-resolution images of a layout."""
    path = PurePosixPath(name)
    return str(path.parent), "".join(MARK.findall(path.stem)).lower()


def _shrunk(size: Size, scale: int) -> Size:
    """Return the size of the low resolution of an image that is cut to a multiple of the scale."""
    return size[0] // scale, size[1] // scale


def _is_related(pair: Pair, read: Callable[[str], Pixels]) -> bool:
    lr, hr = read(pair.lr), read(pair.hr)
    small = Image.fromarray(hr).resize((lr.shape[1], lr.shape[0]), Image.Resampling.BOX)
    return float(np.abs(lr.astype(int) - np.asarray(small)).mean()) < UNRELATED


def _faults(pairs: Sequence[Pair], sizes: dict[str, Size]) -> Iterator[str]:
    """Yield what is wrong with the files that are stored like these pairs and belong to none."""
    scale, lr_style = pairs[0].scale, _style(pairs[0].lr)
    hr_style = Counter(_style(pair.hr) for pair in pairs).most_common(1)[0][0]
    if lr_style == hr_style:
        return
    paired = {name for pair in pairs for name in (pair.lr, pair.hr)}
    lr, hr = ({_key(n): n for n in sizes if _style(n) == style and n not in paired} for style in (lr_style, hr_style))
    for key in sorted(lr.keys() & hr.keys()):
        found, right = ("{}x{}".format(*size) for size in (sizes[lr[key]], _shrunk(sizes[hr[key]], scale)))
        yield f"{lr[key]} has {found} px, and {hr[key]} shrunk x{scale} has {right}"
    strays = {name for key, name in lr.items() if key not in hr}
    for key in sorted(hr.keys() - lr.keys()):
        alike = [name for name in strays if sizes[name] == _shrunk(sizes[hr[key]], scale)]
        strays -= set(alike) if len(alike) == 1 else set()
        hint = f"; {alike[0]}, which belongs to nothing else, has the right size" if len(alike) == 1 else ""
        yield f"{hr[key]} has no low resolution x{scale} of its name{hint}"
    yield from (f"{name} has no original of its name" for name in sorted(strays))


def differences(lr: Pixels, hr: Pixels, scale: int) -> dict[str, float]:
    """Return by how many grey levels, on average, lr differs from hr shrunk by each kernel that lr is made with."""
    size = width, height = _shrunk((hr.shape[1], hr.shape[0]), scale)
    hr = hr[: height * scale, : width * scale]
    picture, planes = Image.fromarray(hr), torch.tensor(hr).permute(2, 0, 1)[None].double()
    aliased = functional.interpolate(planes, scale_factor=1 / scale, mode="bicubic", antialias=False)[0]
    made = {
        "MATLAB bicubic": resize(hr, Fraction(1, scale)),
        "Pillow bicubic": np.asarray(picture.resize(size, Image.Resampling.BICUBIC)),
        "OpenCV bicubic, without antialiasing": aliased.round().clamp(0, 255).byte().permute(1, 2, 0).numpy(),
        "Pillow Lanczos": np.asarray(picture.resize(size, Image.Resampling.LANCZOS)),
        "area average": np.asarray(picture.resize(size, Image.Resampling.BOX)),
    }
    return {name: float(np.abs(lr.astype(int) - image.astype(int)).mean()) for name, image in made.items()}


def made_by(pairs: Sequence[Pair], read: Callable[[str], Pixels]) -> str:
    """Return in words which kernel made the lr images of a few pairs; `read` returns a file's pixels."""
    each = [differences(read(pair.lr), read(pair.hr), pair.scale) for pair in pairs]
    means = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
    nearest, distance = min(means.items(), key=lambda item: item[1])
    if distance <= SAME:
        return nearest
    return f"no kernel that is known; the nearest, {nearest}, is {distance:.1f} grey levels away"
