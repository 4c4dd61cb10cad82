"""Pairs: low resolution that is given, and the originals it belongs to, in two folders or in one.

    pairs:HR_FOLDER,LR_FOLDER    any two folders
    pairs:PATH                   `HR` and `LR`, `GT` and `LQ`, `original` and `LRbicx4`, `LR_bicubic/X4`, ...;
                                 or both in one folder, told by their names

Partners have the same name, or one that differs by what the field's data sets add: `0001x4.png`, `a_lr.png`,
`img_001_SRF_4_LR.png` and `img_001_SRF_4_HR.png`.
"""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from sisr.data.index import Index
from sisr.data.pairs import EXCHANGED
from sisr.data.sources import ImageFile, Source, by_name, existing_folder, hold_out, split_place
from sisr.data.sources.folder import find_images
from sisr.errors import DataError

NO_PARTNER = "no partner"
NAMED = 3  # of several candidates, in messages
LR_FOLDER = re.compile(r"(?i)(?:^|[_. -])(?:lr|lq)(?=$|[_. -]|\d|x\d|bic)")
HR_FOLDER = re.compile(r"(?i)(?:^|[_. -])(?:hr|gt|hq)(?=$|[_. -]|\d|x\d|mod)")
SCALE_FOLDER = re.compile(r"(?i)x\d")
# What data sets and programs add to a picture's name: _LR, _LRBI_x4, _SRF_4_HR, x4, and x4m or x4w2 of DIV2K.
ENDING = re.compile(
    r"(?i)(?:[_.-](?:lr|lq|hr|gt|hq|sr)(?:b[idc]+|dn)?|[_.-]?x[2-8](?:[md]|w\d?)?|[_.-]srf[_.-][2-8])+$"
)
LR_ENDING, HR_ENDING = re.compile(r"(?i)[_.-](?:lr|lq)"), re.compile(r"(?i)[_.-](?:hr|gt|hq)")


def open_layout(place: str) -> Source:
    """Return the pairs of a folder or of two, of which some are held out: as of the originals alone.

    Raises:
        DataError: There are no images, or it can't be told which folders belong together.
    """
    pairs = find_pairs(place)
    folders = [file.path.parent for file in pairs] + [file.lr.parent for file in pairs if file.lr]
    return Source(Path(os.path.commonpath(folders)).name or "pairs", *held_out_pairs(pairs))


def find_pairs(place: str) -> list[ImageFile]:
    """Return the originals at what follows `pairs:`, each with its lr; what has no partner is in it as refused.

    Raises:
        DataError: As `open_layout`.
    """
    parts = split_place(place)
    if len(parts) == 1:
        return _in_one(existing_folder(place), place)
    hr, lr = (existing_folder(part) for part in parts)
    small = find_images(lr)
    inside = {file.path for file in small}
    return join([file for file in find_images(hr) if file.path not in inside], small)


def join(hr: Sequence[ImageFile], lr: Sequence[ImageFile]) -> list[ImageFile]:
    """Return the originals with their lr, sorted by name, and what has no partner, as refused."""
    originals, given = ({file.name: file for file in files} for files in (hr, lr))
    partners = match(originals, given)
    pairs = [_pair(originals[name], given[other]) for name, other in partners.items()]
    taken = set(partners.values())
    small, large = (_grouped(names, _without_ending) for names in (given, originals))
    alone = [_refused("lr", file, small) for file in hr if file.name not in partners]
    strays = [_refused("hr", file, large) for file in lr if file.name not in taken]
    # Not under their own names, which may be those of originals.
    strays = [replace(file, name=f"{file.name} (lr)") for file in strays]
    return sorted([*pairs, *alone, *strays], key=by_name)


def the_other_way_round(files: Iterable[ImageFile], index: Index) -> str:
    """Return what to say instead where the files' originals and their lr are exchanged; empty where none are."""
    found = [
        (file.path.parent, file.lr.parent)
        for file in files
        if file.lr and file.name in index.refused and index.refused[file.name].kind == EXCHANGED
    ]
    hr, lr = (os.path.commonpath(side) for side in zip(*found, strict=True)) if found else ("", "")
    return f"the originals come first: pairs:{lr},{hr}" if hr != lr else ""


def match(names: Iterable[str], others: Iterable[str]) -> dict[str, str]:
    """Return which of `others` belongs to a name; where several could belong together, none does."""
    found: dict[str, str] = {}
    left, right = list(names), list(others)
    # From names that are the same to names that have least in common.
    for key in (str, _without_suffix, _without_ending, _name_without_ending):
        ours, theirs = _grouped(left, key), _grouped(right, key)
        for shared in ours.keys() & theirs.keys():
            if len(ours[shared]) == len(theirs[shared]) == 1:
                found[ours[shared][0]] = theirs[shared][0]
        taken = set(found.values())
        left, right = [name for name in left if name not in found], [name for name in right if name not in taken]
    return found


def held_out_pairs(files: Sequence[ImageFile]) -> tuple[list[ImageFile], list[ImageFile]]:
    """Return what to train on, with what has no partner, and which pairs are held out: as `hold_out` chooses."""
    train, held = hold_out([file for file in files if file.lr])
    return sorted([*train, *(file for file in files if not file.lr)], key=by_name), held


def _pair(hr: ImageFile, lr: ImageFile) -> ImageFile:
    reason = lr.refused and (lr.refused[0], f"its lr, {lr.name}: {lr.refused[1]}")
    return replace(hr, lr=lr.path, refused=hr.refused or reason)


def _refused(missing: str, file: ImageFile, others: Mapping[str, list[str]]) -> ImageFile:
    """Return a file as refused, since none of the others, which are grouped by `_without_ending`, belongs to it."""
    candidates = others.get(_without_ending(file.name), [])
    detail = f"no {missing} image has its name"
    if len(candidates) > 1:
        more = ", ..." if len(candidates) > NAMED else ""
        detail = f"several {missing} images have its name: {', '.join(candidates[:NAMED])}{more}"
    return replace(file, refused=file.refused or (NO_PARTNER, detail))


def _grouped(names: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[key(name)].append(name)
    return groups


def _without_suffix(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _without_ending(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_name(ENDING.sub("", path.stem) or path.stem))


def _name_without_ending(name: str) -> str:
    return PurePosixPath(_without_ending(name)).name


def _in_one(folder: Path, place: str) -> list[ImageFile]:
    """Return the pairs of one folder, told by the names of the folders in it, or else of the files."""
    files = find_images(folder)
    small = {file: marked for file in files if (marked := _marked(file, LR_FOLDER))}
    if not small:
        lr = [file for file in files if _is_lr(file)]
        if not lr:
            raise DataError(
                f"{place} holds no folder of low resolution, such as LR, and no files such as 1_lr.png or 1x4.png: "
                "name two folders, pairs:HR_FOLDER,LR_FOLDER"
            )
        return join([file for file in files if not _is_lr(file)], lr)
    others = [file for file in files if file not in small]
    large = {file: marked for file in others if (marked := _marked(file, HR_FOLDER))}
    lr_folders, hr_folders = sorted(set(small.values())), sorted(set(large.values()))
    if len(lr_folders) > 1 or len(hr_folders) > 1:
        several = ", ".join(lr_folders if len(lr_folders) > 1 else hr_folders)
        hr = hr_folders[0] if hr_folders else "HR_FOLDER"
        raise DataError(
            f"{place} holds {several}: name two of its folders, of the scale that you want, such as "
            f"pairs:{place}/{hr},{place}/{lr_folders[-1]}"
        )
    if not others:
        raise DataError(f"{place} holds low resolution alone: name two folders, pairs:HR_FOLDER,{place}")
    return join(_below_common(list(large) or others), _below_common(list(small)))


def _marked(file: ImageFile, pattern: re.Pattern[str]) -> str:
    """Return the folder, below the source's, that says what a file is, such as `LR_bicubic/X4`; "" where none does."""
    folders = PurePosixPath(file.name).parts[:-1]
    for depth, name in enumerate(folders, 1):
        if pattern.search(name):
            below = folders[depth : depth + 1]
            return "/".join([*folders[:depth], *(name for name in below if SCALE_FOLDER.fullmatch(name))])
    return ""


def _is_lr(file: ImageFile) -> bool:
    ending = ENDING.search(PurePosixPath(file.name).stem)
    return ending is not None and bool(LR_ENDING.search(ending[0]) or not HR_ENDING.search(ending[0]))


def _below_common(files: Sequence[ImageFile]) -> list[ImageFile]:
    """Return the files under names that leave out the folders which all have in common."""
    common = os.path.commonpath([PurePosixPath(file.name).parent for file in files])
    return [replace(file, name=str(PurePosixPath(file.name).relative_to(common))) for file in files]
