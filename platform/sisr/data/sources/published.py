"""Packed images in object storage.

    <address>/source.json            names, split, fingerprint; size and SHA-256 of the files below; written last
    <address>/<key>/pixels.u8 ...    the files of a store

`<address>` is what pyarrow can open: s3://BUCKET/PATH, gs://BUCKET/PATH, or file:///PATH.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sisr.data.store import IMAGES, INDEX, PIXELS, SHAPES, Store
from sisr.errors import DataError

MANIFEST = "source.json"
FORMAT = 1
CHUNK = 8 << 20  # bytes
MEGABYTE = 1_000_000

Progress = Callable[[int, int], None]  # bytes done, bytes altogether


@dataclass(frozen=True)
class Manifest:
    """What was published."""

    name: str  # of the source
    fingerprint: str  # of all its files
    train: list[str]  # names of the images to train on
    held_out: list[str]
    files: dict[str, dict[str, Any]]  # by name within the store: size in bytes, sha256

    @property
    def key(self) -> str:
        """The folder of the files."""
        contents = [self.files[name]["sha256"] for name in sorted(self.files)]
        return hashlib.sha256("".join(contents).encode()).hexdigest()[:24]

    @property
    def size(self) -> int:
        """How many bytes the files are."""
        return sum(int(file["size"]) for file in self.files.values())

    @property
    def megabytes(self) -> int:
        """How many million bytes the files are, rounded down."""
        return self.size // MEGABYTE


def in_megabytes(advance: Callable[[int], None]) -> Progress:
    """Return a progress that says of each million bytes that it is done."""
    shown = 0

    def arrived(done: int, _: int) -> None:
        nonlocal shown
        advance(done // MEGABYTE - shown)
        shown = done // MEGABYTE

    return arrived


def is_address(spec: str) -> bool:
    """Return whether a source's name is an address such as s3://bucket/photos."""
    return re.match(r"[a-z][a-z0-9+.-]*://", spec) is not None


def publish(
    store: Store, name: str, train: Sequence[str], held_out: Sequence[str], address: str, progress: Progress
) -> Manifest:
    """Put a packed source at an address, in the place of what is there.

    A machine that is fetching the older one meanwhile still finds it: its files stay.

    Raises:
        DataError: The address can't be opened or written.
    """
    files = {file: facts(store.folder / file) for file in (PIXELS, SHAPES, IMAGES, INDEX)}
    manifest = Manifest(name, store.fingerprint, list(train), list(held_out), files)
    with opened(address) as (storage, root):
        storage.create_dir(f"{root}/{manifest.key}", recursive=True)
        done = 0
        for file in files:
            with (
                (store.folder / file).open("rb") as source,
                storage.open_output_stream(f"{root}/{manifest.key}/{file}") as target,
            ):
                while chunk := source.read(CHUNK):
                    target.write(chunk)
                    done += len(chunk)
                    progress(done, manifest.size)
        with storage.open_output_stream(f"{root}/{MANIFEST}") as target:
            target.write(json.dumps({"format": FORMAT, **asdict(manifest)}).encode())
    return manifest


def read(address: str) -> Manifest:
    """Return what was published at an address.

    Raises:
        DataError: Nothing was, or it can't be reached.
    """
    with opened(address) as (storage, root):
        try:
            with storage.open_input_stream(f"{root}/{MANIFEST}") as stream:
                content = json.loads(stream.read())
            if content.pop("format") != FORMAT:
                raise DataError(f"{address} was packed by a newer sisr: update this one, or publish again")
            return Manifest(**content)
        except FileNotFoundError as error:
            raise DataError(
                f"{address} holds no {MANIFEST}: put packed images there with `sisr pack FOLDER --publish {address}`"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{address}/{MANIFEST} is damaged ({error!r}): publish again") from error


def facts(path: Path) -> dict[str, Any]:
    """Return what a manifest says of a file."""
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


@contextmanager
def opened(address: str) -> Iterator[tuple[Any, str]]:
    """Give the file system of an address and the path in it; what goes wrong there names the address."""
    import pyarrow
    from pyarrow import fs

    try:
        storage, root = fs.FileSystem.from_uri(address.rstrip("/"))
        yield storage, root
    except pyarrow.ArrowInvalid as error:
        raise DataError(
            f"{address}: an address is s3://BUCKET/PATH, gs://BUCKET/PATH or file:///PATH ({error})"
        ) from error
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{address} can't be reached: {str(error).splitlines()[0]}") from error
