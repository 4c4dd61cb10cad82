"""The images that models are judged on: of a folder or of pairs all, of any other source what it holds out."""

from collections.abc import Mapping
from pathlib import PurePath

from sisr.config.wording import printable
from sisr.data.index import MAX_BAD_FRACTION, Index
from sisr.data.packing import pack
from sisr.data.pairs import are_plain, of_scale, packed_pairs
from sisr.data.sources import ImageFile, catalogue, existing_folder, published
from sisr.data.sources.folder import find_images
from sisr.data.sources.pairs import find_pairs
from sisr.data.store import Store
from sisr.disk.cache import expanded
from sisr.errors import DataError
from sisr.storage.address import is_address


def judging_files(spec: str) -> list[ImageFile]:
    """Return the files of a source that models are judged on.

    Raises:
        DataError: There is no such source.
    """
    if spec and expanded(spec).is_dir():
        return find_images(existing_folder(spec))
    kind, _, place = spec.partition(":")
    return find_pairs(place) if kind == "pairs" else catalogue.open_source(spec).held_out


def check_sets(sets: Mapping[str, str]) -> None:
    """Make sure that there are such sources, without reading an image.

    Args:
        sets: Sources of validation sets, by their names.

    Raises:
        DataError: There is no such source; the message names the set.
    """
    for name, spec in sets.items():
        try:
            if is_address(spec):
                published.read(spec)
            else:
                judging_files(spec)
        except DataError as error:
            raise DataError(f"validation set {name}: {error}") from error


def packed_judging(
    spec: str, show: catalogue.Show, scale: int, *, max_bad_fraction: float = MAX_BAD_FRACTION
) -> tuple[Store, Index]:
    """Return the packed images of a source that models are judged on, and the verdicts on all its files.

    Of pairs those whose lr is `scale` times smaller. `show` is called as by `catalogue.open_packed`.

    Raises:
        DataError: There is no such source, too many files can't be used, or low resolution lies among the images as if
            it were originals.
    """
    if is_address(spec):
        manifest = published.read(spec)
        store = catalogue.fetched(spec, manifest, show).subset(manifest.held_out)
    else:
        files = judging_files(spec)
        with show(f"packing {PurePath(spec).name}", len(files)) as advance:
            store = pack(files, advance=advance, max_bad_fraction=max_bad_fraction)
    if store.paired:
        return of_scale(store, scale, spec, max_bad_fraction)
    mixed = packed_pairs(store)
    if are_plain(mixed, len(store)):
        raise DataError(printable(mixed[0].explained(spec)))
    return store, store.index
