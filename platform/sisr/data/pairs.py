"""Low-resolution images and their originals: what makes two files a pair, and which files of a folder plainly are."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sisr.data import outputs
from sisr.data.formats import READ
from sisr.data.images import Verdict, examine
from sisr.data.index import Index
from sisr.data.store import Store
from sisr.errors import DataError

Pixels = NDArray[np.uint8]  # (h, w, 3)
Size = tuple[int, int]  # width, height, px
SCALES = (2, 3, 4, 8)  # of pairs that are found; those that are given may have any up to LARGEST_SCALE
LARGEST_SCALE = 16
UNRELATED = 20.0  # mean difference in grey levels from which on two images only share a name
ALIKE = 0.7  # correlation of pixels from which on two given images are one picture, however its light was changed
PLAINLY = 0.1  # of a folder's images that belong to pairs: then it is a folder of pairs
EXCHANGED = "exchanged"  # why two files are no pair: hr is where lr should be
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
    """Low-resolution images of one scale, and their originals, among plain images."""

    folder: str  # of the low-resolution images; "." at the top
    scale: int
    pairs: list[Pair]
    faults: list[str]  # what has no partner, or not one of the right size, in words

    def explained(self, spec: str) -> str:
        """Return in words what is wrong with a source `spec` of plain images, and what would be right."""
        pair, count = self.pairs[0], len(self.pairs)
        twice = f"{count:,} {'picture is' if count == 1 else 'pictures are'} there twice"
        how = f"enlarged x{self.scale}" if self.are_enlarged else f"x{self.scale} smaller in '{self.folder}'"
        return f"{spec}: {twice}, {how} ({pair.lr} and {pair.hr}); {self.remedy(spec)}"

    def remedy(self, spec: str) -> str:
        """Return in words what to say instead of `spec`."""
        if self.are_enlarged:
            many = (f"those that end in _x{self.scale} are", "them")
            what, it = many if len(self.pairs) > 1 else (f"{self.pairs[0].hr} is", "it")
            return f"{what} {outputs.REMEDY.format(it)}"
        folder, spec = PurePosixPath(self.pairs[0].hr).parent, spec.rstrip("/") or "/"
        if str(folder) == self.folder:
            return f"to use the given lr, say --data pairs:{spec}; to make lr while training, move the small ones away"
        hr, lr = (spec if str(part) == "." else f"{spec}/{part}" for part in (folder, self.folder))
        alone = "move the small ones away" if hr == spec else f"--data {hr}"
        return f"to use the given lr, say --data pairs:{hr},{lr}; to make lr while training, {alone}"

    @property
    def are_enlarged(self) -> bool:
        """Whether the large images are what `sisr upscale` writes beside its inputs, and not their originals."""
        names = [name for pair in self.pairs for name in (pair.lr, pair.hr)]
        return {pair.hr for pair in self.pairs} <= {*outputs.among(names)}


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
        if any(is_related(read(pair.lr), read(pair.hr)) for pair in pairs[:COMPARED])
    ]


def packed_pairs(store: Store) -> list[PairedFolder]:
    """Return the folders of packed images that plainly hold pairs."""
    position = {name: i for i, name in enumerate(store.names)}
    sizes = {
        name: (int(width), int(height)) for name, (_, height, width) in zip(store.names, store.shapes, strict=True)
    }
    return find_paired(store.names, sizes.get, lambda name: store[position[name]])


def are_plain(found: Sequence[PairedFolder], num_images: int) -> bool:
    """Return whether a folder of so many images plainly is one of pairs, and not one in which a few happen to be."""
    return any(len(folder.pairs) * 2 >= PLAINLY * num_images for folder in found)


def examine_pair(hr: Path, lr: Path) -> tuple[Verdict, tuple[Pixels, ...]]:
    """Return the verdict on two files as one picture, that of hr, and, where it is good, pixels of hr and of lr.

    Never raises for what the files hold.
    """
    verdict, large = examine(hr)
    if large is None:
        return verdict, ()
    given, small = examine(lr)
    notes = (*verdict.notes, *(f"lr: {note}" for note in given.notes))
    verdict = replace(verdict, notes=notes, lr_sha256=given.sha256)
    if small is None:
        kind, detail = given.kind, given.detail
    elif problem := mismatch(small, large):
        kind, detail = problem
    else:
        return verdict, (large, small)
    return replace(verdict, kind=kind, detail=f"its lr, {lr.name}: {detail}"), ()


def mismatch(lr: Pixels, hr: Pixels) -> tuple[str, str] | None:
    """Return why two images are no pair, as kind and detail; None where they are one."""
    small, large = size_of(lr), size_of(hr)
    if scale_of(large, small):
        return EXCHANGED, "it is the larger one"
    if scale_of(small, large) is None:
        nearest = max(2, round((large[0] + large[1]) / (small[0] + small[1])))
        found, right, of = ("{}x{} px".format(*size) for size in (small, shrunk(large, nearest), large))
        return "another size", f"it has {found}; of {of}, x{nearest} would leave {right}"
    return None if is_related(lr, hr, ALIKE) else ("unrelated", "it shows another picture")


def size_of(image: Pixels) -> Size:
    """Return width and height."""
    return image.shape[1], image.shape[0]


def scale_of(lr: Size, hr: Size) -> int | None:
    """Return by how much lr is smaller than hr, cut at the right and bottom to a multiple of it; None: by no number."""
    return next((scale for scale in range(2, LARGEST_SCALE + 1) if shrunk(hr, scale) == lr), None)


def scales(store: Store) -> list[int]:
    """Return of each packed pair how many times larger hr is than lr."""
    sides = zip(store.lr_shapes[:, 1:].tolist(), store.shapes[:, 1:].tolist(), strict=True)
    return [scale_of((lr[1], lr[0]), (hr[1], hr[0])) or 0 for lr, hr in sides]


def of_scale(store: Store, scale: int, spec: str, max_bad_fraction: float) -> tuple[Store, Index]:
    """Return the packed pairs of a scale, and the verdicts on all files, in which those of another are refused.

    Raises:
        DataError: Too many pairs, or all of them, have another scale.
    """
    wrong = {name: found for name, found in zip(store.names, scales(store), strict=True) if found != scale}
    if not wrong:
        return store, store.index
    if len(wrong) == len(store):
        found = ", ".join(f"x{found}" for found in sorted(set(wrong.values())))
        remedy = " or ".join(f"--set scale={found}" for found in sorted(set(wrong.values())))
        raise DataError(f"{spec}: lr is {found} smaller than hr, and the recipe enlarges x{scale}: {remedy}")
    detail = f"its lr is x{{}} smaller, and the recipe enlarges x{scale}"
    verdicts = {
        name: replace(each, kind="another scale", detail=detail.format(wrong[name])) if name in wrong else each
        for name, each in store.index.verdicts.items()
    }
    (index := Index(verdicts)).check(spec, max_bad_fraction)
    return store.subset(set(store.names) - set(wrong)), index


def is_related(lr: Pixels, hr: Pixels, alike: float = 1.0) -> bool:
    """Return whether two images show one picture, also where their pixels only correlate by `alike`."""
    shown = lr.astype(np.float32)
    small = np.asarray(Image.fromarray(hr).resize((lr.shape[1], lr.shape[0]), Image.Resampling.BOX), np.float32)
    if np.abs(shown - small).mean() < UNRELATED:
        return True
    spreads = float(shown.std() * small.std())
    covariance = float(((shown - shown.mean()) * (small - small.mean())).mean())
    return alike < 1 and covariance >= alike * spreads > 0


def header_size(file: Path | IO[bytes]) -> Size | None:
    """Return the size that a file's header says, not turned upright; None where it can't be read."""
    try:
        with Image.open(file, formats=[name.upper() for name in READ]) as image:
            return image.size
    except Exception:  # whoever decodes it will say what is wrong
        return None


def _pairs(groups: Iterable[list[str]], sizes: dict[str, Size]) -> Iterator[Pair]:
    for group in groups:
        there = [name for name in group if name in sizes]
        for name in there:
            largest = max(there, key=sizes.__getitem__)
            if scale := next((s for s in SCALES if shrunk(sizes[largest], s) == sizes[name]), None):
                yield Pair(name, largest, scale)


def _key(name: str) -> str:
    """Return what the names of a picture in two sizes have in common."""
    return MARK.sub("", PurePosixPath(name).stem) or name


def _style(name: str) -> tuple[str, str]:
    """Return a file's folder and how its name is marked: the same for all low-resolution images of a layout."""
    path = PurePosixPath(name)
    return str(path.parent), "".join(MARK.findall(path.stem)).lower()


def shrunk(size: Size, scale: int) -> Size:
    """Return the size of the low resolution of an image that is cut to a multiple of the scale."""
    return size[0] // scale, size[1] // scale


def _faults(pairs: Sequence[Pair], sizes: dict[str, Size]) -> Iterator[str]:
    """Yield what is wrong with the files that are stored like these pairs and belong to none."""
    scale, lr_style = pairs[0].scale, _style(pairs[0].lr)
    hr_style = Counter(_style(pair.hr) for pair in pairs).most_common(1)[0][0]
    if lr_style == hr_style:
        return
    paired = {name for pair in pairs for name in (pair.lr, pair.hr)}
    lr, hr = ({_key(n): n for n in sizes if _style(n) == style and n not in paired} for style in (lr_style, hr_style))
    for key in sorted(lr.keys() & hr.keys()):
        found, right = ("{}x{}".format(*size) for size in (sizes[lr[key]], shrunk(sizes[hr[key]], scale)))
        yield f"{lr[key]} has {found} px, and {hr[key]} shrunk x{scale} has {right}"
    strays = {name for key, name in lr.items() if key not in hr}
    for key in sorted(hr.keys() - lr.keys()):
        alike = [name for name in strays if sizes[name] == shrunk(sizes[hr[key]], scale)]
        strays -= set(alike) if len(alike) == 1 else set()
        hint = f"; {alike[0]}, which belongs to nothing else, has the right size" if len(alike) == 1 else ""
        yield f"{hr[key]} has no low resolution x{scale} of its name{hint}"
    yield from (f"{name} has no original of its name" for name in sorted(strays))
