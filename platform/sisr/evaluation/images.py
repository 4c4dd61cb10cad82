"""The images that models are judged on, and which of them a model has learned from."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sisr.config.wording import printable
from sisr.data.formats import RefusedError
from sisr.data.images import decode, decode_with_alpha, flatten
from sisr.data.index import Index
from sisr.data.packing import digest, read_all
from sisr.data.pairs import find_paired, header_size, scale_of
from sisr.data.sources import ImageFile, catalogue
from sisr.data.sources.judging import judging_files
from sisr.data.sources.pairs import the_other_way_round
from sisr.disk.run_folder import RECORD, RunFolder
from sisr.disk.sweep_folder import TRIALS
from sisr.errors import DataError, SisrError
from sisr.evaluation.measure import Original
from sisr.terminal.console import note, stage

CUT_FROM = "Cut from SHA-256"  # text of a PNG: the SHA-256 of the image file that it was cut from


@dataclass(frozen=True)
class Learned:
    """What a model has learned from, as far as it is known."""

    run: Mapping[str, Any] = field(default_factory=dict)  # what its run.json says of the run
    sha256s: Collection[str] | None = None  # of every image file that it was trained on; None: not known


def find(data: str) -> list[ImageFile]:
    """Return the image files that --data names: of a folder, or of pairs, all; of another source what it holds out.

    Raises:
        DataError: There are none, or some can't be used, or are no pairs; or low resolution lies among images as if it
            were originals.
    """
    if (path := Path(data)).is_file():
        return [ImageFile(path.resolve(), path.name)]
    files = judging_files(data)
    _require_usable(data, files)
    if not any(file.lr for file in files):
        _refuse_pairs(data, files)
    return files


def find_unseen(data: str, learned: Iterable[Learned]) -> tuple[list[ImageFile], str]:
    """Return what `find` returns, of the images or pairs that a model was trained on only what its run held out.

    Args:
        data: What the user names.
        learned: What each model that is to be judged has learned from.

    Returns:
        The files, and what to call them.
    """
    is_whole, place = Path(data).is_dir() or data.startswith("pairs:"), catalogue.absolute(data)
    own = any(each.run.get("data") == place and not each.run.get("validation") for each in learned)
    if not is_whole or not own:
        return find(data), data
    files = catalogue.open_source(data).held_out
    _require_usable(data, files)
    many = f"{len(files)} images that were" if len(files) != 1 else "one image that was"
    note(f"{data}: judged on the {many} held out while a model was trained on the others")
    return files, f"{data} (held-out images)"


def _refuse_pairs(spec: str, files: Sequence[ImageFile]) -> None:
    """Raise DataError if the files of a source, none of which is packed, hold pairs."""
    paths = {file.name: file.path for file in files if not file.refused}
    found = find_paired(list(paths), lambda name: header_size(paths[name]), lambda name: decode(paths[name]))
    if found:
        raise DataError(printable(found[0].explained(spec)))


def _require_usable(data: str, files: Sequence[ImageFile]) -> None:
    """Raise DataError, which names the first, unless all files are good: no mean silently leaves one out."""
    judged = (verdict for verdict, _ in read_all(files, lambda file: None))
    with stage("reading the images"):
        index = Index.of(zip((file.name for file in files), judged, strict=True))
    if index.refused:
        head = f"{data}: {len(index.refused)} of {len(files)} can't be measured on; mend or remove them:"
        raise DataError("\n".join(filter(None, [head, *index.offenders(), the_other_way_round(files, index)])))


def given_scale(files: Sequence[ImageFile]) -> int | None:
    """Return hr side / lr side of most pairs, by their headers; None where no lr is given."""
    sizes = [(header_size(file.lr), header_size(file.path)) for file in files if file.lr]
    scales = Counter(scale_of(lr, hr) for lr, hr in sizes if lr and hr)
    return scales.most_common(1)[0][0] if scales else None


def decoded(files: Sequence[ImageFile]) -> Iterator[Original]:
    """Yield names and pixels, of pairs of both: (h, w, 3), or (h, w) where the file is grey.

    Raises:
        RefusedError: A file can't be used: no mean silently leaves one out.
    """
    for file in files:
        if file.refused:
            raise RefusedError(*file.refused, file.path)
        yield Original(file.name, _pixels(file.path), _pixels(file.lr) if file.lr else None)


def _pixels(path: Path) -> NDArray[np.uint8]:
    picture = decode_with_alpha(path)
    return picture.pixels[..., 0] if picture.grey and picture.alpha is None else flatten(picture)


def hashes(files: Sequence[ImageFile]) -> dict[str, str]:
    """Return the SHA-256 of each file's content, by name."""
    return {file.name: hashlib.sha256(file.path.read_bytes()).hexdigest() for file in files if not file.refused}


def fingerprint(files: Sequence[ImageFile], hashes: dict[str, str]) -> str:
    """Return the SHA-256 of files' names and contents, of which `hashes` are known, and of the lr that is given."""
    lr = {f"{file.name} (lr)": hashlib.sha256(file.lr.read_bytes()).hexdigest() for file in files if file.lr}
    return digest(part for pair in (hashes | lr).items() for part in pair)


def cut_from(files: Sequence[ImageFile]) -> dict[str, str]:
    """Return the SHA-256 of the image file that each was cut from, by name, for those that say it in `CUT_FROM`."""
    found = {}
    for file in files:
        with (
            suppress(OSError),
            Image.open(file.path, formats=["PNG"]) as image,
        ):  # of what can't be read nothing is known
            found[file.name] = str(image.info.get(CUT_FROM, ""))
    return {name: sha256 for name, sha256 in found.items() if sha256}


def among(hashes: Mapping[str, str], origins: Mapping[str, str], trained_on: Collection[str]) -> list[str]:
    """Return the names of the files that a model knows: themselves, or what they were cut from.

    Args:
        hashes: Of each file, by name.
        origins: What `cut_from` returns of them.
        trained_on: SHA-256 of what the model was trained on.
    """
    return [name for name, sha256 in hashes.items() if sha256 in trained_on or origins.get(name) in trained_on]


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


def of_folder(path: Path) -> Learned:
    """Return what the run that a model or checkpoint folder lies in has learned from."""
    for folder in (path, *path.resolve().parents[:3]):
        try:
            record = json.loads((folder / RECORD).read_text())
        except (OSError, ValueError):
            continue
        hashes = RunFolder(folder).file_hashes()
        if not hashes and folder.parent.name == TRIALS:
            hashes = RunFolder(folder.parent.parent).file_hashes()  # a sweep keeps those of its trials
        return learned(record, hashes) if isinstance(record, dict) else Learned()
    return Learned()


def learned(record: Mapping[str, Any], hashes: Mapping[str, str]) -> Learned:
    """Return what a run has learned from; for its record and hashes see `trained_on`."""
    return Learned(record.get("run", {}), trained_on(record, hashes))


def warnings(models: Mapping[str, Learned], files: Sequence[ImageFile]) -> list[str]:
    """Return in words which models were trained on some of the images."""
    known = {name: model.sha256s for name, model in models.items() if model.sha256s}
    if not known:
        return []
    contents, origins = hashes(files), cut_from(files)
    found = []
    for name, sha256s in known.items():
        if seen := among(contents, origins, sha256s):
            listed = ", ".join(seen[:3]) + (", ..." if len(seen) > 3 else "")
            found.append(
                f"{name} was trained on {len(seen)} of these {len(files)} images ({listed}): its values on them say "
                "nothing about others"
            )
    return found
