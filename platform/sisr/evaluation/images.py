"""The images that models are judged on, and which of them a model has learned from."""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sisr.data.formats import RefusedError
from sisr.data.images import decode_with_alpha, flatten
from sisr.data.packing import digest
from sisr.data.pairs import refuse_pairs
from sisr.data.sources import ImageFile, catalogue
from sisr.data.sources.folder import find_images
from sisr.disk.run_folder import RunFolder
from sisr.disk.sweep_folder import TRIALS
from sisr.errors import SisrError


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


def trained_on(record: Mapping[str, Any], hashes: Mapping[str, str]) -> set[str] | None:
    """Return the SHA-256 of every image file that a run was trained on; None where that is not known.

    Args:
        record: Its run.json. Runs of older versions did not record which images they held out: then the images that
            they name are split again, if they are still there.
        hashes: Its files.json: the SHA-256 of each file by name, of those held out as well.
    """
    held_out = record.get("held_out")
    if held_out is None:
        run = record.get("run", {})
        try:
            held_out = [file.name for file in catalogue.open_source(run["data"], run.get("validation")).validation]
        except (SisrError, KeyError, OSError):
            return None
    return {sha256 for name, sha256 in hashes.items() if name not in set(held_out)} or None


def of_folder(path: Path) -> set[str] | None:
    """Return what the run that a model or checkpoint folder lies in was trained on, as `trained_on` does."""
    for folder in (path, *path.resolve().parents[:3]):
        try:
            record = json.loads((folder / "run.json").read_text())
        except (OSError, ValueError):
            continue
        hashes = RunFolder(folder).file_hashes()
        if not hashes and folder.parent.name == TRIALS:
            hashes = RunFolder(folder.parent.parent).file_hashes()  # a sweep keeps those of its trials
        return trained_on(record, hashes) if isinstance(record, dict) else None
    return None


def warnings(models: Mapping[str, Path], files: Sequence[ImageFile]) -> list[str]:
    """Return in words which models, given by their folders or files, were trained on some of the images."""
    known = {name: of_folder(path) for name, path in models.items()}
    if not any(known.values()):
        return []
    contents = hashes(files)
    found = []
    for name, sha256s in known.items():
        if seen := among(contents, sha256s or ()):
            listed = ", ".join(seen[:3]) + (", ..." if len(seen) > 3 else "")
            found.append(
                f"{name} was trained on {len(seen)} of these {len(files)} images ({listed}): its values on them say "
                "nothing about others"
            )
    return found
