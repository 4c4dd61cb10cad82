"""A source's images as training wants them, packed and split, wherever they come from."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from sisr.data.sources import published
from sisr.data.sources.source import absolute as absolute_folder
from sisr.data.sources.source import open_source
from sisr.data.store import Store, pack
from sisr.errors import DataError

Advance = Callable[..., None]  # takes how many more are done
Show = Callable[[str, int], AbstractContextManager[Advance]]  # takes what is done, and how many there are


@dataclass(frozen=True)
class Packed:
    """All images of a source, and how it is split."""

    name: str
    store: Store
    train: list[str]  # names
    held_out: list[str]


def look(spec: str, validation: str | None = None) -> None:
    """Raise what is wrong with a source as far as it can be said without reading an image.

    Args:
        spec: What `sources.open_source` takes, or the address of a published source, such as s3://bucket/photos.
        validation: As there; a published source brings its own.

    Raises:
        DataError: There is no such source.
    """
    if published.is_address(spec):
        _manifest(spec, validation)
    else:
        open_source(spec, validation)


def open_packed(spec: str, validation: str | None, show: Show) -> Packed:
    """Return a source's images: packed on this machine, or fetched to it, by the first process that asks.

    Args:
        spec: As in `look`; so is `validation`, and what is raised.
        validation: See there.
        show: Shows how far it is.
    """
    if published.is_address(spec):
        manifest = _manifest(spec, validation)
        with show(f"fetching {spec} (MB)", manifest.megabytes) as advance:
            store = published.fetch(spec, manifest, published.in_megabytes(advance))
        return Packed(manifest.name, store, manifest.train, manifest.held_out)
    source = open_source(spec, validation)
    with show(f"packing {source.name}", len(source.files)) as advance:
        store = pack(source.files, progress=lambda done, total: advance())
    return Packed(source.name, store, [f.name for f in source.train], [f.name for f in source.validation])


def _manifest(spec: str, validation: str | None) -> published.Manifest:
    if validation is not None:
        raise DataError(f"{spec} is packed and brings its own held-out images: leave --validation out")
    return published.read(spec)


def absolute(spec: str) -> str:
    """Return a source's name that means the same in every folder that a process may work in."""
    return spec if published.is_address(spec) else absolute_folder(spec)
