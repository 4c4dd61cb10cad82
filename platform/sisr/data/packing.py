"""Image files packed into a store: each read, judged and decoded once.

A store is a cache. It lies under `$SISR_CACHE` (else `~/.cache/sisr`) in `<root>/<key>`, where the key comes from its
files' paths, sizes and times of modification; it is built anew, reusing what has not changed, when any of them does,
and when it is found damaged. Of several processes that ask for it at once, one builds.
"""

import hashlib
import json
import logging
import os
import shutil
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray

from sisr.config.wording import printable
from sisr.data.images import Verdict, examine
from sisr.data.index import MAX_BAD_FRACTION, Index
from sisr.data.pairs import examine_pair, scales
from sisr.data.sources import ImageFile, Source, by_name
from sisr.data.sources.pairs import the_other_way_round
from sisr.data.store import IMAGES, INDEX, PIXELS, SHAPES, DamagedStoreError, Store, write_sums
from sisr.disk import atomic, cache, lock
from sisr.errors import DataError, DiskError

DECODER = f"2/pillow-{PIL.__version__}"  # whatever makes the same file give other pixels

# A verdict and pixels (h, w, 3): none where refused, one image, or hr and the lr that is given with it.
Judged = tuple[Verdict, tuple[NDArray[np.uint8], ...]]

_log = logging.getLogger(__name__)


def pack(
    files: Sequence[ImageFile],
    cache_dir: Path | None = None,
    advance: Callable[[], object] = lambda: None,
    *,
    max_bad_fraction: float = MAX_BAD_FRACTION,
) -> Store:
    """Return the store of these files: opened where it exists and is whole, else built.

    `advance` is called after each file while building. Without `cache_dir`, see `sisr.disk.cache`.

    Raises:
        DataError: Too many files, or all of them, can't be used; the message has the counts and the first ten.
        DiskError: The store can't be written.
    """
    files = sorted(files, key=by_name)
    if not files:
        raise DataError("there are no image files to pack")
    folder = place(files, cache_dir)
    store = _opened(folder)
    if store is None:
        with lock.held(folder.parent / ".lock", advice="set SISR_CACHE"):
            store = _opened(folder, quietly=True)  # another process may have been quicker
            if store is None:
                _build(folder, files, advance)
                store = Store(folder)
    if len(store) < len(files):
        store.index.check(_root(files), max_bad_fraction, the_other_way_round(files, store.index))
    return store


def place(files: Sequence[ImageFile], cache_dir: Path | None = None) -> Path:
    """Return the folder in which these files, as they are now, are packed or will be; see `pack`."""
    files = sorted(files, key=by_name)
    key = [DECODER, *(f"{file.name}/{stamp(file)}/{file.refused}" for file in files)]
    # Each low resolution of the same originals has stores of its own, which don't push one another out.
    pairs = [(file.path.parent, file.lr.parent) for file in files if file.lr]
    roots = [os.path.commonpath(side) for side in zip(*pairs, strict=True)] or [_root(files)]
    return (cache_dir or cache.folder()) / f"{Path(_root(files)).name}-{digest(roots)[:12]}" / digest(key)[:24]


def read_all(files: Sequence[ImageFile], known: Callable[[ImageFile], Judged | None]) -> Iterator[Judged]:
    """Yield verdict and pixels of each file, in order.

    Several are decoded at once, by threads, since decoders release Python's lock; few are held in memory. A file of
    which `known` returns something has not changed, and needs no reading.
    """

    def judged(file: ImageFile) -> Judged:
        if file.refused:
            return Verdict(0, "", "", 0, 0, *file.refused), ()
        if found := known(file):
            return found
        if file.lr:
            return examine_pair(file.path, file.lr)
        verdict, pixels = examine(file.path)
        return verdict, () if pixels is None else (pixels,)

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(16, cores)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    waiting: deque[Future[Judged]] = deque()
    try:
        for file in files:
            waiting.append(pool.submit(judged, file))
            if len(waiting) > workers + 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def stamp(file: ImageFile) -> str:
    """Return a digest of path, size and time of modification, also of its lr; "" where a file can't be looked at."""
    parts = []
    for path in (file.path, *([file.lr] if file.lr else [])):
        try:
            found = path.stat()
        except OSError:
            return ""
        parts += [str(path), str(found.st_size), str(found.st_mtime_ns)]
    return digest(parts)[:24]


def digest(parts: Iterable[str]) -> str:
    """Return the SHA-256 of several strings, in hexadecimal; file names that aren't text are no obstacle."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part.encode("utf-8", "surrogateescape") + b"\0")
    return sha.hexdigest()


def _root(files: Sequence[ImageFile]) -> str:
    return os.path.commonpath([path.parent for file in files for path in (file.path, file.lr) if path])


def _opened(folder: Path, *, quietly: bool = False) -> Store | None:
    """Return the store in a folder; None where there is none, or, with a warning, where it is damaged."""
    try:
        return Store(folder) if folder.is_dir() else None
    except DamagedStoreError as error:
        if not quietly:
            _log.warning("%s", str(error).replace("the next start replaces them", "packing them anew"))
        return None


def _build(folder: Path, files: Sequence[ImageFile], advance: Callable[[], object]) -> None:
    """Pack the files into `folder`; the caller holds the lock. Leftovers and all but the newest older store go."""
    stamps = [stamp(file) for file in files]
    known = _known(folder.parent, dict(zip((f.name for f in files), stamps, strict=True)))
    verdicts, shapes, sums, end = [], [], [], 0
    columns = 6 if any(file.lr for file in files) else 3
    atomic.remove_unfinished(folder.parent)
    try:
        with atomic.folder(folder) as partial:
            with open(partial / PIXELS, "wb") as file:
                for verdict, images in read_all(files, known):
                    verdicts.append(verdict)
                    for pixels in images:
                        content = np.ascontiguousarray(pixels).data.cast("B")
                        shapes += [end, *pixels.shape[:2]]
                        sums.append(zlib.crc32(content))
                        end += file.write(content)
                    advance()
            index = Index({file.name: verdict for file, verdict in zip(files, verdicts, strict=True)})
            about = {"decoder": DECODER, "fingerprint": index.fingerprint, "names": index.good}
            np.save(partial / SHAPES, np.array(shapes, dtype=np.int64).reshape(-1, columns))
            (partial / IMAGES).write_text(json.dumps(about))
            (partial / INDEX).write_text(json.dumps({**index.to_columns(), "stamp": stamps}))
            write_sums(partial, sums)
    except DiskError as error:
        raise DiskError(f"packed images: {error}; free some space or set SISR_CACHE") from error
    for stale in _stores(folder.parent)[:-2]:  # a run may still read the one before
        shutil.rmtree(stale, ignore_errors=True)


def _known(family: Path, stamps: dict[str, str]) -> Callable[[ImageFile], Judged | None]:
    """Return a function that finds an unchanged file's verdict and pixels in the newest store of the same root."""
    store = None
    for folder in _stores(family)[-1:]:
        with suppress(DamagedStoreError):
            store = Store(folder)
    if store is None or json.loads((store.folder / IMAGES).read_text()).get("decoder") != DECODER:
        return lambda file: None
    names = dict(zip(json.loads((store.folder / INDEX).read_text())["stamp"], store.index.verdicts, strict=True))
    position = {name: i for i, name in enumerate(store.names)}

    def known(file: ImageFile) -> Judged | None:
        name = names.get(stamps[file.name]) if stamps[file.name] else None
        if name is None:
            return None
        try:
            return store.index.verdicts[name], store.images(position[name]) if name in position else ()
        except DamagedStoreError:
            return None

    return known


def _stores(family: Path) -> list[Path]:
    """Return the folders of complete stores, oldest first."""
    return sorted((path.parent for path in family.glob(f"[!.]*/{IMAGES}")), key=lambda path: path.stat().st_mtime_ns)


def report(source: Source, store: Store) -> dict[str, Any]:
    """Return what is known of a packed source, ready for JSON."""
    return {
        "source": source.name,
        "files": len(source.files),
        "train": len(store.subset(file.name for file in source.train)),
        "held_out": len(store.subset(file.name for file in source.validation)),
        "held_out_of": len(source.held_out),
        "narrowest_px": int(store.shapes[:, 2].min()),
        "lowest_px": int(store.shapes[:, 1].min()),
        **({"scales": dict(Counter(f"x{scale}" for scale in scales(store)))} if store.paired else {}),
        "converted": store.index.notes(),
        "refused": {printable(name): f"{v.kind}: {v.detail}" for name, v in store.index.refused.items()},
        "fingerprint": store.fingerprint,
        "pixels_mb": round(store.nbytes / 1e6, 1),
        "folder": str(store.folder),
    }
