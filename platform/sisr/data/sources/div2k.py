"""DIV2K as it is published: `DIV2K_train_HR`, and perhaps `DIV2K_valid_HR` and the low resolution of a track beside it.

Agustsson and Timofte, "NTIRE 2017 Challenge on Single Image Super-Resolution: Dataset and Study", 2017.
https://data.vision.ee.ethz.ch/cvl/DIV2K/
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from sisr.data.sources import ImageFile, Source, by_name, draw, existing_folder, first_folder, hold_out, split_place
from sisr.data.sources.folder import find_images
from sisr.data.sources.pairs import join
from sisr.errors import DataError

# Of track wild each photograph of training has four takes, 0001x4w1.png to 0001x4w4.png.
TAKE = re.compile(r"(?i)x\dw(\d)$")
FOLDERS = ("DIV2K_train_HR/DIV2K_train_HR", "DIV2K_train_HR", "DIV2K/DIV2K_train_HR")


def open_layout(place: str) -> Source:
    """Return the photographs: training is validated on 16 of the validation images, evaluation uses all 100.

    Args:
        place: The folder; or the folder, a comma and one of the published tracks, such as `unknown_x4`, `bicubic_x2`,
            `x8`, `mild` or `wild`: then lr is the track's.

    Raises:
        DataError: There are no images, or no such track.
    """
    path, *track = split_place(place)
    hr = first_folder(existing_folder(path), FOLDERS)
    train, valid = find_images(hr), hr.parent / "DIV2K_valid_HR"
    originals = train
    if track:
        train = _with_lr(train, find_images(_track(hr.parent, "train", track[0])))
    if not valid.is_dir():
        # Originals are chosen, so that none that is held out is trained on in another of its takes.
        paths = {file.path for file in hold_out(originals)[1]}
        held = [file for file in train if file.path in paths and not file.refused]
        return Source("div2k", sorted(set(train) - set(held), key=by_name), held)
    held = find_images(valid)
    if track:
        held = _with_lr(held, find_images(_track(hr.parent, "valid", track[0])))
    held = [_named(file) for file in held]
    return Source("div2k", train, draw(held), held)


def _with_lr(hr: Sequence[ImageFile], lr: Sequence[ImageFile]) -> list[ImageFile]:
    """Return the originals with their lr, as `join` does; those of which there are several takes once for each."""
    takes: dict[str, list[ImageFile]] = defaultdict(list)
    for file in lr:
        number = TAKE.search(PurePosixPath(file.name).stem)
        takes[number[1] if number else ""].append(file)
    pairs = [
        replace(file, name=f"{file.name} (w{take})") if take else file
        for take, files in takes.items()
        for file in join(hr, files)
    ]
    return sorted(pairs, key=by_name)


def _named(file: ImageFile) -> ImageFile:
    return replace(file, name=f"DIV2K_valid_HR/{file.name}")


def _track(root: Path, part: str, track: str) -> Path:
    """Return the folder that holds a track's low resolution of a part, train or valid."""
    name, _, scale = track.rpartition("_x")
    found = [root / f"DIV2K_{part}_LR_{track}", *(root / f"DIV2K_{part}_LR_{name}" / f"{x}{scale}" for x in "Xx")]
    for folder in found:
        if folder.is_dir():
            return folder
    raise DataError(f"{root} holds no DIV2K_{part}_LR of a track '{track}'; there are {_tracks(root, part)}")


def _tracks(root: Path, part: str) -> str:
    """Return the names of the tracks that are there, in words."""
    names = []
    for folder in sorted(root.glob(f"DIV2K_{part}_LR_*/")):
        track = folder.name.partition("_LR_")[2]
        scales = [scale.name.lower() for scale in sorted(folder.iterdir()) if re.fullmatch(r"[Xx]\d", scale.name)]
        names += [f"{track}_{scale}" for scale in scales] or [track]
    return ", ".join(names) or "none: name the folder alone to make lr while training"
