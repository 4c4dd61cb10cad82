"""sr that another program has made: one file for each original, in a folder."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from sisr.config.wording import printable
from sisr.data.images import decode
from sisr.data.index import NAMED
from sisr.data.pairs import Size, header_size
from sisr.data.sources import ImageFile, existing_folder
from sisr.data.sources.folder import find_images
from sisr.data.sources.pairs import match
from sisr.errors import DataError


@dataclass(frozen=True)
class Finished:
    """Files of sr by the names of their originals."""

    files: Mapping[str, Path]

    def sr(self, name: str, height: int, width: int) -> NDArray[np.uint8]:
        """Return the sr of an original, uint8 (height, width, 3); what is larger is cut at the bottom and right.

        Raises:
            RefusedError: The file can't be used.
            DataError: It is smaller.
        """
        pixels = decode(self.files[name])
        if pixels.shape[0] < height or pixels.shape[1] < width:
            found = f"{pixels.shape[1]}x{pixels.shape[0]} px"
            raise DataError(f"{self.files[name]} has {found}: the sr of {name} must have {width}x{height}")
        return pixels[:height, :width].copy()


def find_finished(folder: Path, originals: Sequence[ImageFile], scale: int) -> tuple[Finished, list[str]]:
    """Return the sr of each original, and the names of the files in the folder that belong to none.

    A file's name is that of its original, or begins with it, as `baby_x4_out.png` does. Its size is that of the
    original, which may be cut to a multiple of the scale at the bottom and right.

    Raises:
        DataError: Some are missing, or of another size; the message names them.
    """
    found = {file.name: file.path for file in find_images(existing_folder(folder)) if not file.refused}
    chosen = _matched(found, [original.name for original in originals])
    problems = [f"none for {original.name}" for original in originals if original.name not in chosen]
    for original in originals:
        if original.name in chosen and (wrong := _wrong_size(found[chosen[original.name]], original.path, scale)):
            problems.append(f"{chosen[original.name]} {wrong}")
    surplus = sorted(found.keys() - set(chosen.values()))
    if problems:
        lines = [f"  {printable(problem)}" for problem in problems[:NAMED]]
        more = [f"  and {len(problems) - NAMED} more"] if len(problems) > NAMED else []
        of = [f"  files that belong to none: {printable(listed(surplus))}"] if surplus else []
        head = f"--sr {folder} has not one image of the right size for each of the {len(originals)} originals:"
        raise DataError("\n".join([head, *lines, *more, *of]))
    return Finished({name: found[chosen[name]] for name in chosen}), surplus


def find_all(
    folders: Sequence[Path], originals: Sequence[ImageFile], scale: int
) -> tuple[dict[str, Finished], list[str]]:
    """Return what is in several folders, by their names, and in words which files belong to no original.

    Raises:
        DataError: As `find_finished`.
    """
    finished, surplus = {}, []
    for folder in folders:
        name = folder.resolve().name if len({each.resolve().name for each in folders}) == len(folders) else str(folder)
        finished[name], strays = find_finished(folder, originals, scale)
        if strays:
            surplus.append(f"surplus in --sr {folder}, no image of --data has their names: {listed(strays)}")
    return finished, surplus


def listed(names: Sequence[str]) -> str:
    """Return the first of many names in a line."""
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _matched(found: Iterable[str], originals: Sequence[str]) -> dict[str, str]:
    """Return which file is an original's sr, by the original's name."""
    chosen = match(originals, found)
    left = set(found) - set(chosen.values())
    # The longest names first, so that `img_10_out` does not go to `img`.
    for original in sorted(set(originals) - chosen.keys(), key=lambda name: (-len(name), name)):
        begins = re.compile(re.escape(PurePosixPath(original).stem) + r"[^0-9A-Za-z]")
        alike = [name for name in left if begins.match(PurePosixPath(name).name)]
        if len(alike) == 1:
            chosen[original] = alike[0]
            left.remove(alike[0])
    return chosen


def _wrong_size(sr: Path, hr: Path, scale: int) -> str:
    """Return in words what is wrong with the size of sr; nothing where that can't be told without decoding."""
    made, original = header_size(sr), header_size(hr)
    if made is None or original is None:
        return ""
    cut: Size = (original[0] // scale * scale, original[1] // scale * scale)
    if made in (cut, original, cut[::-1], original[::-1]):  # turned upright only when it is decoded
        return ""
    found, right = ("{}x{}".format(*size) for size in (made, cut))
    return f"has {found} px instead of {right}"
