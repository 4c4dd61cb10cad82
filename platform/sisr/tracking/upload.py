"""Files of a run as they may leave this machine: from inside its folder only, and without secrets.

The files themselves stay as they are, since a run goes on from them. What a file of settings holds under a secret's
name is also taken out of the other texts, such as a page with a table of settings. Code is sent unchanged: a model's
`recipe.py` is known by its SHA-256.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Set
from contextlib import contextmanager
from html import escape
from pathlib import Path, PurePosixPath
from typing import Any

from sisr.disk.run_folder import RECORD
from sisr.errors import DataError
from sisr.tracking.redact import HIDDEN, redact, redact_text

SETTINGS = (RECORD, "sweep.json", "config.json", "model/config.json")  # where a run's secrets may stand
LINES, TEXTS, PAGES = {".jsonl"}, {".yaml", ".yml", ".csv", ".txt", ".md", ".log"}, {".html", ".svg"}
SHORTEST = 4  # characters of a secret that is taken out of texts wherever it stands


def inside(folder: Path, relative: str) -> Path:
    """Return the file or folder `relative` in a run's folder.

    Raises:
        DataError: It lies elsewhere, or leads there by a link.
        FileNotFoundError: It is not there.
    """
    path = folder / relative
    if os.path.isabs(relative) or not path.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"'{relative}' is not a path inside the run's folder {folder}")
    if not path.exists():
        raise FileNotFoundError(f"{path} is gone")
    return path


def target(artifact_path: str) -> str | None:
    """Return a folder among a run's artifacts, as MLflow wants it: `None` for all of them.

    Raises:
        DataError: It leads out of them.
    """
    if artifact_path.startswith("/") or ".." in PurePosixPath(artifact_path).parts:
        raise DataError(f"'{artifact_path}' is no folder among a run's artifacts")
    return artifact_path or None


@contextmanager
def staged(folder: Path, relative: str) -> Iterator[Path]:
    """Give a folder with a copy of the run's file `relative`, or of all that the folder `relative` holds.

    Raises as `inside`, also for a link among what a folder holds.
    """
    source = inside(folder, relative)
    known = _known_secrets(folder)
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / source.name  # MLflow keeps the name of a model's folder
        copy.mkdir()
        for file in sorted(source.rglob("*")) if source.is_dir() else [source]:
            within = inside(folder, str(PurePosixPath(relative) / file.relative_to(source)))
            if within.is_file():
                place = copy / (file.relative_to(source) if source.is_dir() else file.name)
                place.parent.mkdir(parents=True, exist_ok=True)
                if (text := redacted(within, known)) is None:
                    shutil.copyfile(within, place)
                else:
                    place.write_bytes(text)
        yield copy


def _known_secrets(folder: Path) -> set[str]:
    """Return the secrets in the settings of a run, a sweep or a model, as they may stand in a text or a page."""
    found: set[str] = set()
    for name in SETTINGS:
        if (folder / name).is_file():
            redact(_parsed((folder / name).read_text(errors="replace")), found)
    return {form for secret in found if len(secret) >= SHORTEST for form in (secret, escape(secret))} - {HIDDEN}


def redacted(path: Path, known: Set[str] = frozenset()) -> bytes | None:
    """Return a file's content without secrets; `None` where it holds none."""
    if path.suffix not in {".json"} | LINES | TEXTS | PAGES:
        return None
    before = path.read_bytes().decode(errors="surrogateescape")
    if path.suffix == ".json":
        after = _redacted_json(before, 1)
    elif path.suffix in LINES:
        after = "".join(_redacted_json(line, None) for line in before.splitlines(keepends=True))
    else:
        after = redact_text(before) if path.suffix in TEXTS else before
    for secret in sorted(known, key=len, reverse=True):
        after = after.replace(secret, HIDDEN)
    return None if after == before else after.encode(errors="surrogateescape")


def _redacted_json(text: str, indent: int | None) -> str:
    value = _parsed(text)
    clean = redact(value)
    return text if clean == value else json.dumps(clean, indent=indent, sort_keys=indent is not None) + "\n"


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
