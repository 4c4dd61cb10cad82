"""Which images a model has learned from, so that nobody judges it on them without knowing."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sisr.data.sources import ImageFile
from sisr.data.sources.catalogue import open_source
from sisr.disk.run_folder import RunFolder
from sisr.disk.sweep_folder import TRIALS
from sisr.errors import SisrError
from sisr.evaluation import images


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
            held_out = [file.name for file in open_source(run["data"], run.get("validation")).validation]
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
    """Return in words which models were trained on some of the images that they are to be judged on.

    Args:
        models: Folders or files of models, by the models' names.
        files: The images.
    """
    known = {name: of_folder(path) for name, path in models.items()}
    if not any(known.values()):
        return []
    hashes = images.hashes(files)
    found = []
    for name, sha256s in known.items():
        if seen := images.among(hashes, sha256s or ()):
            listed = ", ".join(seen[:3]) + (", ..." if len(seen) > 3 else "")
            found.append(
                f"{name} was trained on {len(seen)} of these {len(files)} images ({listed}): its values on them say "
                "nothing about others"
            )
    return found
