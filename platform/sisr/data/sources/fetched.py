"""Packed images fetched from object storage: once per machine, checked, kept within a limit.

They lie in `$SISR_CACHE/published/<key>`; what was not used for longest goes first when room is needed.
"""

import hashlib
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from sisr.data.sources.published import CHUNK, Manifest, Progress, facts, opened
from sisr.data.store import SUMS, DamagedStoreError, Store, write_sums
from sisr.disk import atomic, cache, lock
from sisr.errors import ConfigError, DataError, DiskError

LIMIT = "SISR_CACHE_GB"  # environment variable: billions of bytes that fetched images may take on a machine
SPARE = 1 << 30  # bytes that stay free on the disk

_log = logging.getLogger(__name__)


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
    """Return the folder that holds what was published, or will; see `fetch`."""
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
            while chunk := _next(source, address):
                digest.update(chunk)
                target.write(chunk)
                done += len(chunk)
                progress(done, manifest.size)
        if digest.hexdigest() != expected["sha256"]:
            raise DataError(
                f"{address}: {name} arrived with SHA-256 {digest.hexdigest()[:12]}..., published was "
                f"{expected['sha256'][:12]}...: try again, and publish again if it stays so"
            )


def _next(source: Any, address: str) -> bytes:
    with opened(address):
        return bytes(source.read(CHUNK))


def _make_room(fetched: Path, folder: Path, size: int, address: str) -> None:
    """Remove what was not used for longest until `size` bytes fit, below the limit and onto the disk.

    Who still reads what is removed keeps it until the process ends.
    """
    atomic.remove_unfinished(fetched)
    shutil.rmtree(folder, ignore_errors=True)
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
        raise ConfigError(f"{LIMIT}={given}: give billions of bytes, such as 200") from error


def _last_used(path: Path) -> float:
    return path.stat().st_mtime


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())
