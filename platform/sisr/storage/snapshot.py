"""What a run in object storage holds: the newest snapshot, and the way from it into a folder."""

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

from sisr.disk import atomic
from sisr.errors import StorageError
from sisr.storage import claim
from sisr.storage.bucket import Bucket

FILE = "snapshot.json"
FORMAT = 1
TRIES = 3  # to read a run while its owner replaces its snapshot and removes what that no longer names
# What a folder lacks may be lacking: each of these is verified by whoever takes it up, and has an older brother.
EXPENDABLE = "checkpoints/"

# What is this machine's alone: what was delivered where, and what is written anew from the journals.
OWN_FILES = {"mlflow.json", "outbox.ack", "courier.log"}
OWN_FOLDERS = {"tensorboard", "ray"}

Wanted = Callable[[str], bool]
Signature = tuple[int, int, int]  # of a file that has not been written since: inode, bytes, time


class _UnusableError(Exception):
    """A file can't be put together."""


@dataclass(frozen=True)
class Entry:
    """One file: its content is that of its parts, one after the other."""

    bytes: int
    sha256: str
    parts: tuple[tuple[str, int], ...]  # names of objects, and their sizes


@dataclass(frozen=True)
class Snapshot:
    """All files of a run at one moment, by their paths in its folder."""

    generation: int
    files: dict[str, Entry] = field(default_factory=dict)

    def objects(self) -> set[str]:
        """Return the names of all objects that the files are made of."""
        return {name for entry in self.files.values() for name, _ in entry.parts}

    def encoded(self) -> bytes:
        """Return it as the object that `newest` reads."""
        return json.dumps({"format": FORMAT, **asdict(self)}, separators=(",", ":")).encode()


def folder_of(generation: int) -> str:
    """Return the name below which an owner's objects lie."""
    return f"gen-{generation:06d}"


def newest(bucket: Bucket, generation: int | None = None) -> Snapshot | None:
    """Return a run's newest snapshot, or None where there is none; `generation`: the last one that counts.

    It is found by names, never by listing: of the present owner, or, until that has written one, of those before it.

    Raises:
        StorageError: It can't be read, or is damaged.
    """
    if generation is None:
        found = claim.read(bucket)
        generation = found[0].generation if found else 0
    for number in range(generation, 0, -1):
        content = bucket.get(f"{folder_of(number)}/{FILE}")
        if content is not None:
            return _decoded(content.content, f"{bucket.address}/{folder_of(number)}/{FILE}")
    return None


def fetch(bucket: Bucket, snapshot: Snapshot, folder: Path, wanted: Wanted = lambda path: True) -> list[str]:
    """Bring the wanted files of a snapshot into a folder; what is there already stays. Return what could not be had.

    Raises:
        StorageError: Storage does not answer, or a file that counts is lacking or damaged.
        DiskError: A file can't be written.
    """
    lacking = []
    # Journals behind what they name.
    for path, entry in sorted(snapshot.files.items(), key=lambda item: item[0].endswith(".jsonl")):
        target = folder / path
        if not wanted(path) or is_at(target, entry):
            continue
        if not target.resolve().is_relative_to(folder.resolve()):
            raise StorageError(f"{bucket.address} names a file outside the run's folder: {path}")
        problem = _fetch_file(bucket, entry, target)
        if problem and EXPENDABLE not in path:
            raise StorageError(f"{bucket.address}: {path} {problem}")
        if problem:
            lacking.append(f"{path} {problem}")
    return lacking


def fetch_newest(bucket: Bucket, folder: Path, wanted: Wanted = lambda path: True) -> tuple[Snapshot | None, list[str]]:
    """Bring the newest state of a run into a folder, also while its owner goes on; return it and what it lacks.

    Raises:
        StorageError: See `fetch`.
    """
    snapshot = newest(bucket)
    for attempt in range(TRIES):
        if snapshot is None:
            return None, []
        problem, lacking = None, list[str]()
        try:
            lacking = fetch(bucket, snapshot, folder, wanted)
        except StorageError as error:
            problem = error
        if problem is None and not lacking:
            break
        before, snapshot = snapshot, newest(bucket)
        if snapshot == before or attempt == TRIES - 1:
            if problem:
                raise problem
            break
    return snapshot, lacking


def remove_others(folder: Path, snapshot: Snapshot, wanted: Wanted = lambda path: True) -> None:
    """Remove from a folder the wanted files that a snapshot does not have."""
    for path in [*local_files(folder)]:
        if path not in snapshot.files and wanted(path):
            (folder / path).unlink(missing_ok=True)
    for place, _, _ in os.walk(folder, topdown=False):
        if Path(place) != folder and not os.listdir(place):
            os.rmdir(place)


def local_files(folder: Path) -> Iterable[str]:
    """Yield the paths of a run's files but this machine's own, which are those that begin with a dot, too."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in OWN_FOLDERS)
        for name in sorted(names):
            if not name.startswith(".") and name not in OWN_FILES:
                yield Path(place, name).relative_to(folder).as_posix()


def signature(path: Path) -> Signature | None:
    """Return what tells whether a file was written since; None where it is gone."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def is_at(path: Path, entry: Entry) -> bool:
    """Return whether a file has the content of an entry."""
    try:
        with path.open("rb") as file:
            same = os.fstat(file.fileno()).st_size == entry.bytes
            return same and hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256
    except OSError:
        return False


def _fetch_file(bucket: Bucket, entry: Entry, target: Path) -> str:
    """Write a file from its objects; return in words what is wrong with them, and nothing where it was written."""
    sha = hashlib.sha256()
    try:
        with atomic.file(target) as unfinished, unfinished.open("wb") as file, _opened(target) as older:
            for name, size in entry.parts:
                # A journal begins with what it was: an object's name ends with the hash of its content.
                content = older.read(size)
                if not name.endswith(f"@{hashlib.sha256(content).hexdigest()[:16]}"):
                    found = bucket.get(name)
                    if found is None:
                        raise _UnusableError("is lacking: an object of it is gone")
                    content = found.content
                sha.update(content)
                file.write(content)
            if sha.hexdigest() != entry.sha256:
                raise _UnusableError("is damaged: it arrived with another SHA-256")
    except _UnusableError as error:
        return str(error)
    return ""


def _opened(path: Path) -> BinaryIO:
    """Return a file to read; an empty one where there is none."""
    try:
        return path.open("rb")
    except OSError:
        return io.BytesIO()


def _decoded(content: bytes, where: str) -> Snapshot:
    try:
        found = dict(json.loads(content))
        if found["format"] != FORMAT:
            raise StorageError(f"{where} has format {found['format']!r}: use a newer sisr")
        files = {
            path: Entry(entry["bytes"], entry["sha256"], tuple((name, size) for name, size in entry["parts"]))
            for path, entry in found["files"].items()
        }
        return Snapshot(found["generation"], files)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(f"{where} is damaged ({error!r})") from error
