"""Where images come from: files, split into images to train on and images held out. One layout a file.

A layout's file has a function `open_layout(place)` that returns a `Source`; it is found by its name in `LAYOUTS`. The
place is what follows the colon in `celeba:PATH`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from sisr.disk.cache import expanded
from sisr.errors import DataError

LAYOUTS = ("celeba", "div2k", "pairs")  # given as celeba:PATH
ACCEPTED = ", ".join(("demo", "a folder of images", *(f"{name}:PATH" for name in LAYOUTS)))  # for messages and --help
HELD_OUT = 16  # at most; and at most a tenth, but at least one


@dataclass(frozen=True)
class ImageFile:
    """A file of a source."""

    path: Path  # absolute
    name: str  # unique in the source, the same on every machine: relative, with forward slashes
    refused: tuple[str, str] | None = None  # kind and detail, where listing already found that it can't be used
    lr: Path | None = None  # absolute; its low resolution, where that is given: the two are a pair


by_name = attrgetter("name")  # what files are sorted by


@dataclass(frozen=True)
class Source:
    """The files of a source, before anything is known of their content."""

    name: str
    train: list[ImageFile]
    validation: list[ImageFile]  # what training is validated on
    test: list[ImageFile] | None = None  # all that its publisher has set apart, for evaluation; None: `validation`

    @property
    def files(self) -> list[ImageFile]:
        """All files to train and validate on: what to pack."""
        return [*self.train, *self.validation]

    @property
    def paired(self) -> bool:
        """Whether lr is given with the images, and not made by the recipe."""
        return any(file.lr for file in self.files)

    @property
    def held_out(self) -> list[ImageFile]:
        """All files that a model can be judged on."""
        return self.validation if self.test is None else self.test


def hold_out(files: Sequence[ImageFile]) -> tuple[list[ImageFile], list[ImageFile]]:
    """Return the files to train on and the files held out, both sorted by name.

    They are chosen by their names alone: every run, whatever its seed, holds out the same ones, and a file that is
    added moves hardly any other. The held-out ones are the last 16, or the last tenth where that is less, of the files
    shuffled by a hash of their names; at least one.
    """
    held = draw(files, min(HELD_OUT, max(1, len(files) // 10)))
    return sorted(set(files) - set(held), key=by_name), held


def draw(files: Sequence[ImageFile], count: int = HELD_OUT) -> list[ImageFile]:
    """Return `count` of the files, chosen by their names, sorted by name."""

    def shuffled(file: ImageFile) -> bytes:
        return hashlib.sha256(b"held out/" + file.name.encode("utf-8", "surrogateescape")).digest()

    return sorted(sorted(files, key=shuffled)[-count:], key=by_name)


def split_place(place: str) -> list[str]:
    """Return the parts of what follows a layout's colon: a folder, and what a comma may separate from it.

    Folders may have commas in their names.
    """
    commas = [] if expanded(place).is_dir() else [at for at, letter in enumerate(place) if letter == ","]
    if not commas:
        return [place]
    at = next((at for at in commas if expanded(place[:at]).is_dir()), commas[0])
    return [place[:at], place[at + 1 :]]


def existing_folder(path: str | Path) -> Path:
    """Return the folder.

    Raises:
        DataError: There is none.
    """
    folder = expanded(path)
    if not str(path) or not folder.is_dir():
        raise DataError(f"{path} is {'not a folder' if folder.exists() else 'not there'}: name a folder of images")
    return folder


def first_folder(folder: Path, names: Sequence[str]) -> Path:
    """Return the first of these folders below `folder` that is there.

    Raises:
        DataError: None is.
    """
    found = next((folder / name for name in names if (folder / name).is_dir()), None)
    if found is None:
        raise DataError(f"{folder} holds none of {', '.join(names)}")
    return found
