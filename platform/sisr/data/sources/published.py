"""Packed images in object storage: published, and fetched once per machine, checked, kept within a limit.

    <address>/source.json            names, split, fingerprint; size and SHA-256 of the files below; written last
    <address>/<key>/pixels.u8 ...    the files of a store

`<address>` is what pyarrow can open: s3://BUCKET/PATH, gs://BUCKET/PATH, or file:///PATH. What was fetched lies in
`$SISR_CACHE/published/<key>`; what was not used for longest goes first when room is needed.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sisr.data.store import IMAGES, INDEX, PIXELS, SHAPES, SUMS, DamagedStoreError, Store, write_sums
from sisr.disk import atomic, cache, lock
from sisr.errors import ConfigError, DataError, DiskError

MANIFEST = "source.json"
FORMAT, PAIRED = 1, 2  # of single images, as every version reads them; of pairs
PATIENCE_S = 60  # with Google's storage
CHUNK = 8 << 20  # bytes
MEGABYTE = 1_000_000
LIMIT = "SISR_CACHE_GB"  # environment variable: billions of bytes that fetched images may take on a machine
SPARE = 1 << 30  # bytes that stay free on the disk

_log = logging.getLogger(__name__)

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


def in_megabytes(advance: Callable[[int], None]) -> Progress:
    """Return a progress that says of each million bytes that it is done."""
    shown = 0

    def arrived(done: int, _: int) -> None:
        nonlocal shown
        advance(done // MEGABYTE - shown)
        shown = done // MEGABYTE

    return arrived


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
            target.write(json.dumps({"format": PAIRED if store.paired else FORMAT, **asdict(manifest)}).encode())
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
            if content.pop("format") not in (FORMAT, PAIRED):
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
        storage, root = fs.FileSystem.from_uri(_with_patience(address.rstrip("/")))
        yield storage, root
    except pyarrow.ArrowInvalid as error:
        raise DataError(
            f"{address}: an address is s3://BUCKET/PATH, gs://BUCKET/PATH or file:///PATH ({error})"
        ) from error
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{address} can't be reached: {str(error).splitlines()[0]}") from error


def _with_patience(address: str) -> str:
    """Return an address of Google's storage with how long to try it, which would be 15 minutes without a word."""
    if not address.startswith(("gs://", "gcs://")) or "retry_limit_seconds" in address:
        return address
    return f"{address}{'&' if '?' in address else '?'}retry_limit_seconds={PATIENCE_S}"


def fetch(address: str, manifest: Manifest, progress: Progress, cache_dir: Path | None = None) -> Store:
    """Return what was published at an address, from this machine's cache; fetched by the first process that asks.

    Progress is made only where it is not here already; without `cache_dir`, see `sisr.disk.cache`.

    Raises:
        DataError: It can't be reached, or what arrives is damaged.
        DiskError: There is no room.
        ConfigError: `SISR_CACHE_GB` is no number.
    """
    folder = place(manifest, cache_dir)
    with lock.held(folder.parent / ".lock", advice="set SISR_CACHE"):
        store = _kept(folder, manifest)
        if store is None:
            _make_room(folder.parent, folder, manifest.size, address)
            with atomic.folder(folder) as partial:
                _download(address, manifest, partial, progress)
                write_sums(partial)
            store = Store(folder)
        os.utime(folder)  # used now
    return store


def place(manifest: Manifest, cache_dir: Path | None = None) -> Path:
    """Return the folder that holds what was fetched, or will."""
    return (cache_dir or cache.folder()) / "published" / manifest.key


def _kept(folder: Path, manifest: Manifest) -> Store | None:
    """Return what was fetched before; None where nothing was, or, with a warning, where it is damaged."""
    if not folder.is_dir():
        return None
    try:
        if not (folder / SUMS).is_file():  # fetched by a version that knew no sums
            changed = [name for name, expected in manifest.files.items() if facts(folder / name) != expected]
            if changed:
                raise DamagedStoreError(f"the packed images in {folder} are damaged: {changed[0]} has changed")
            write_sums(folder)
        return Store(folder)
    except (DamagedStoreError, OSError) as error:
        _log.warning("%s; fetching them anew", str(error).removesuffix("; the next start replaces them"))
        return None


def _download(address: str, manifest: Manifest, folder: Path, progress: Progress) -> None:
    done = 0
    for name, expected in manifest.files.items():
        digest = hashlib.sha256()
        with opened(address) as (storage, root):
            source = storage.open_input_stream(f"{root}/{manifest.key}/{name}")
        with source, (folder / name).open("wb") as target:
            while True:
                with opened(address):
                    chunk = source.read(CHUNK)
                if not chunk:
                    break
                digest.update(chunk)
                target.write(chunk)
                done += len(chunk)
                progress(done, manifest.size)
        if digest.hexdigest() != expected["sha256"]:
            raise DataError(
                f"{address}: {name} arrived with SHA-256 {digest.hexdigest()[:12]}..., published was "
                f"{expected['sha256'][:12]}...: try again, and publish again if it stays so"
            )


def _make_room(fetched: Path, folder: Path, size: int, address: str) -> None:
    """Remove what was not used for longest until `size` bytes fit, below the limit and onto the disk.

    Who still reads what is removed keeps it until the process ends.
    """
    atomic.remove_unfinished(fetched)
    shutil.rmtree(folder, ignore_errors=True)
    limit = _limit()
    folders = sorted(filter(Path.is_dir, fetched.iterdir()), key=lambda path: path.stat().st_mtime)
    kept = {path: sum(file.stat().st_size for file in path.iterdir()) for path in folders}
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
        raise ConfigError(f"{LIMIT}={given}: give billions of bytes, such as 200") from error
