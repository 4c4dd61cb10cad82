"""Packed images in object storage: put there once, fetched once per machine, checked, kept within a limit.

    <address>/source.json            names, split, fingerprint; size and SHA-256 of the files below; written last
    <address>/<key>/pixels.u8 ...    the files of a store

`<address>` is what pyarrow can open: s3://BUCKET/PATH, gs://BUCKET/PATH, or file:///PATH. A machine keeps what it has
fetched in `$SISR_CACHE/published/<key>`; what was not used for longest goes first when room is needed.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sisr.data.store import IMAGES, INDEX, PIXELS, SHAPES, Store
from sisr.disk import cache, lock
from sisr.errors import ConfigError, DataError, DiskError

MANIFEST = "source.json"
FORMAT = 1
LIMIT = "SISR_CACHE_GB"  # environment variable: billions of bytes that fetched images may take on a machine
SPARE = 1 << 30  # bytes that stay free on the disk
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
    files = {file: _facts(store.folder / file) for file in (PIXELS, SHAPES, IMAGES, INDEX)}
    manifest = Manifest(name, store.fingerprint, list(train), list(held_out), files)
    with _reaching(address) as (storage, root):
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
    with _reaching(address) as (storage, root):
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


def fetch(address: str, manifest: Manifest, progress: Progress, cache_dir: Path | None = None) -> Store:
    """Return what was published at an address, from this machine's cache; fetched by the first process that asks.

    Args:
        address: Where the files are.
        manifest: What was `read` there.
        progress: Called while they arrive; not where they are here already.
        cache_dir: None: see `sisr.disk.cache`.

    Raises:
        DataError: It can't be reached, or what arrives is damaged.
        DiskError: There is no room.
        ConfigError: `SISR_CACHE_GB` is no number.
    """
    kept = (cache_dir or cache.folder()) / "published"
    folder = kept / manifest.key
    with lock.held(kept / ".lock", advice="set SISR_CACHE"):
        if not _is_whole(folder, manifest):
            _make_room(kept, folder, manifest.size, address)
            partial = folder.with_suffix(".partial")
            try:
                partial.mkdir()
                _download(address, manifest, partial, progress)
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        os.utime(folder)  # used now
    return Store(folder)


def _facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


@contextmanager
def _reaching(address: str) -> Iterator[tuple[Any, str]]:
    """Give the file system of an address and the path in it; what goes wrong there names the address."""
    import pyarrow
    from pyarrow import fs

    try:
        storage, root = fs.FileSystem.from_uri(address.rstrip("/"))
        yield storage, root
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{address}: wanted s3://BUCKET/PATH, gs://BUCKET/PATH or file:///PATH ({error})") from error
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{address} can't be reached: {str(error).splitlines()[0]}") from error


def _is_whole(folder: Path, manifest: Manifest) -> bool:
    try:
        return all((folder / name).stat().st_size == facts["size"] for name, facts in manifest.files.items())
    except OSError:
        return False


def _download(address: str, manifest: Manifest, folder: Path, progress: Progress) -> None:
    done = 0
    for name, facts in manifest.files.items():
        digest = hashlib.sha256()
        with _reaching(address) as (storage, root):
            source = storage.open_input_stream(f"{root}/{manifest.key}/{name}")
        with source, _writing(folder / name) as target:
            while chunk := _next(source, address):
                digest.update(chunk)
                target.write(chunk)
                done += len(chunk)
                progress(done, manifest.size)
        if digest.hexdigest() != facts["sha256"]:
            raise DataError(
                f"{address}: {name} arrived with SHA-256 {digest.hexdigest()[:12]}..., published was "
                f"{facts['sha256'][:12]}...: try again, and publish again if it stays so"
            )


def _next(source: Any, address: str) -> bytes:
    with _reaching(address):
        return bytes(source.read(CHUNK))


@contextmanager
def _writing(path: Path) -> Iterator[Any]:
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _make_room(fetched: Path, folder: Path, size: int, address: str) -> None:
    """Remove what was not used for longest until `size` bytes fit, below the limit and onto the disk.

    Who still reads what is removed keeps it until the process ends.
    """
    for leftover in (folder, *fetched.glob("*.partial")):  # of processes that died
        shutil.rmtree(leftover, ignore_errors=True)
    limit = _limit()
    kept = {path: _size(path) for path in sorted(fetched.iterdir(), key=_last_used) if path.is_dir()}
    while True:
        free = shutil.disk_usage(fetched).free - SPARE
        if size <= free and sum(kept.values()) + size <= limit:
            return
        if not kept:
            if size > limit:
                raise DiskError(f"{address} is {size / 1e9:.2f} GB, and {LIMIT} allows {limit / 1e9:g}: raise it")
            raise DiskError(
                f"{address} is {size / 1e9:.2f} GB, and {fetched} has room for {max(free, 0) / 1e9:.2f}: free some, or "
                "set SISR_CACHE to another disk"
            )
        oldest = next(iter(kept))
        shutil.rmtree(oldest)
        del kept[oldest]


def _limit() -> float:
    given = os.environ.get(LIMIT)
    try:
        return float(given) * 1e9 if given else float("inf")
    except ValueError as error:
        raise ConfigError(f"{LIMIT}={given}: wanted billions of bytes, such as 200") from error


def _last_used(path: Path) -> float:
    return path.stat().st_mtime


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())
