"""The images that models are judged on."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sisr.data.formats import RefusedError
from sisr.data.images import decode_with_alpha, flatten
from sisr.data.packing import digest
from sisr.data.pairs import refuse_pairs
from sisr.data.sources import ImageFile, catalogue
from sisr.data.sources.folder import find_images


def find(data: str) -> list[ImageFile]:
    """Return the image files that --data names: of a folder all, of another source what it holds out.

    Raises:
        DataError: There are none, or they plainly hold pairs of lr and hr, of which only hr can be measured on.
    """
    path = Path(data)
    if path.is_file():
        return [ImageFile(path.resolve(), path.name)]
    files = find_images(path) if data and path.is_dir() else catalogue.open_source(data).held_out
    refuse_pairs(data, files)
    return files


def decoded(files: Sequence[ImageFile]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield names and pixels: (h, w, 3), or (h, w) where the file is grey.

    Raises:
        RefusedError: A file can't be used: no mean silently leaves one out.
    """
    for file in files:
        if file.refused:
            raise RefusedError(*file.refused, file.path)
        picture = decode_with_alpha(file.path)
        yield file.name, picture.pixels[..., 0] if picture.grey and picture.alpha is None else flatten(picture)


def hashes(files: Sequence[ImageFile]) -> dict[str, str]:
    """Return the SHA-256 of each file's content, by name."""
    return {file.name: hashlib.sha256(file.path.read_bytes()).hexdigest() for file in files if not file.refused}


def fingerprint(hashes: dict[str, str]) -> str:
    """Return the SHA-256 of files' names and contents."""
    return digest(part for pair in hashes.items() for part in pair)


def among(hashes: dict[str, str], trained_on: Collection[str]) -> list[str]:
    """Return the names of the files whose content is among `trained_on`, which are SHA-256."""
    return [name for name, sha256 in hashes.items() if sha256 in trained_on]
