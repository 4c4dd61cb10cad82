"""A source by what the user calls it: `demo`, a folder, a layout such as `celeba:PATH`, or an address."""

import difflib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from sisr.data.index import MAX_BAD_FRACTION
from sisr.data.packing import pack
from sisr.data.sources import (
    ACCEPTED,
    LAYOUTS,
    ImageFile,
    Source,
    by_name,
    existing_folder,
    folder,
    pairs,
    published,
    split_place,
)
from sisr.data.sources.demo import open_demo
from sisr.data.store import Store
from sisr.disk.cache import expanded
from sisr.errors import DataError
from sisr.storage.address import is_address

Advance = Callable[..., None]  # takes how many more are done
Show = Callable[[str, int], AbstractContextManager[Advance]]  # takes what is done, and how many there are


@dataclass(frozen=True)
class Packed:
    """All images of a source, and how it is split."""

    name: str
    store: Store
    train: list[str]  # names
    held_out: list[str]  # what training is validated on
    held_out_of: int  # how many its publisher has set apart


def open_source(spec: str, validation: str | None = None) -> Source:
    """Return the files that `spec` names.

    Args:
        spec: `demo`; a folder, searched recursively; or a layout and the folder that holds it, such as `div2k:PATH`.
        validation: A folder of images to hold out instead of some of the source's own; it may lie inside the source.
            Of pairs: what `pairs:` takes, with or without that word in front.

    Raises:
        DataError: There is no such source, or it has too few images.
    """
    kind, colon, path = spec.partition(":")
    if spec == "demo":
        source = open_demo()
    elif colon and kind in LAYOUTS:
        source = import_module(f"sisr.data.sources.{kind}").open_layout(path)
    elif spec and expanded(spec).is_dir():  # an empty path, as of an unset variable, would be the current one
        source = folder.open_layout(existing_folder(spec))
    else:
        raise DataError(_no_source(spec, kind if colon else ""))
    if validation is not None:
        held = _validation_files(validation, paired=source.paired)
        source = _with_validation(source, held, keeps_split=spec == "demo" or (bool(colon) and kind != "pairs"))
    for part, files in (("train on", source.train), ("hold out", source.validation)):
        if not files:
            count = len(source.files)
            found = f"{count} image{' is' if count == 1 else 's are'} too few"
            raise DataError(f"{spec}: {found}: there is none to {part}")
    return source


def check_source(spec: str, validation: str | None = None) -> None:
    """Raise what is wrong with a source as far as it can be said without reading an image.

    It is what `open_source` takes, or the address of a published one, such as s3://bucket/photos, whose held-out
    images are its own.

    Raises:
        DataError: There is no such source.
    """
    if is_address(spec):
        _manifest(spec, validation)
    else:
        open_source(spec, validation)


def open_packed(spec: str, validation: str | None, show: Show, *, max_bad_fraction: float = MAX_BAD_FRACTION) -> Packed:
    """Return a source's images: packed on this machine, or fetched to it, by the first process that asks.

    Source and errors are those of `check_source`; more refused files than `max_bad_fraction` are an error, too, but in
    a published source, which was accepted.
    """
    if is_address(spec):
        manifest = _manifest(spec, validation)
        store = fetched(spec, manifest, show)
        return Packed(manifest.name, store, manifest.train, manifest.held_out, len(manifest.held_out))
    source = open_source(spec, validation)
    with show(f"packing {source.name}", len(source.files)) as advance:
        store = pack(source.files, advance=advance, max_bad_fraction=max_bad_fraction)
    train, held_out = ([file.name for file in files] for files in (source.train, source.validation))
    return Packed(source.name, store, train, held_out, len(source.held_out))


def fetched(spec: str, manifest: published.Manifest, show: Show) -> Store:
    """Return the packed images of a published source, fetched by the first process that asks."""
    with show(f"fetching {spec} (MB)", manifest.size // published.MEGABYTE) as advance:
        return published.fetch(spec, manifest, published.in_megabytes(advance))


def absolute(spec: str) -> str:
    """Return a source's name that means the same in every folder that a process may work in."""
    kind, colon, path = spec.partition(":")
    if spec == "demo" or is_address(spec):
        return spec
    if colon and kind in LAYOUTS:
        first, *second = split_place(path)
        second = [str(expanded(part).absolute()) if kind == "pairs" else part for part in second]
        return f"{kind}:{','.join([str(expanded(first).absolute()), *second])}"
    return str(expanded(spec).absolute())


def _manifest(spec: str, validation: str | None) -> published.Manifest:
    if validation is not None:
        raise DataError(f"{spec} is packed and brings its own held-out images: leave --validation out")
    return published.read(spec)


def _validation_files(validation: str, *, paired: bool) -> list[ImageFile]:
    kind, colon, place = validation.partition(":")
    is_pairs = bool(colon) and kind == "pairs"
    if paired:
        return pairs.find_pairs(place if is_pairs else str(existing_folder(validation)))
    if is_pairs:
        raise DataError(f"--validation {validation} gives lr, and --data gives none: give --data as pairs:..., too")
    return folder.find_images(existing_folder(validation))


def _with_validation(source: Source, held: Sequence[ImageFile], *, keeps_split: bool) -> Source:
    """Return the source validated on `held`; what it held out itself is trained on unless its publisher chose it."""
    paths = {file.path for file in held}
    train = [file for file in (source.train if keeps_split else source.files) if file.path not in paths]
    named = [replace(file, name=f"validation/{file.name}") for file in held]
    return Source(source.name, sorted(train, key=by_name), named)


def _no_source(spec: str, kind: str) -> str:
    if not spec:
        return f"the name of the images is empty; accepted are {ACCEPTED}"
    if "://" in spec:
        return f"{spec}: packed images at an address can be trained on, not read as files: name a folder"
    if Path(spec).is_file():
        return f"{spec} is one file; accepted are {ACCEPTED}"
    near = difflib.get_close_matches(kind.lower() or spec, [*LAYOUTS, "demo"], n=1)
    hint = f"; did you mean '{near[0]}{spec[len(kind) :] if kind else ''}'?" if near else ";"
    absent = "" if kind or Path(spec).exists() else ", which is not there"
    return f"no images at '{spec}'{absent}{hint} accepted are {ACCEPTED}"
