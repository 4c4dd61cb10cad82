"""Named sets of images that a run is measured on beside its own held-out ones; nothing is decided by them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sisr.config.wording import printable
from sisr.data.index import changes
from sisr.data.sources.catalogue import Show
from sisr.data.sources.judging import packed_judging
from sisr.data.validation import ValidationImages
from sisr.errors import ConfigError, DataError
from sisr.recipe import Recipe
from sisr.training.run import Run

MANY = 256  # images of a set from which on it is said that they take their time
MARK = "//"  # between a set's name and that of its file; names of files have no such


@dataclass(frozen=True)
class ValidationSet:
    """One opened set."""

    images: ValidationImages
    fingerprint: str  # of all its files
    facts: dict[str, Any]  # for the run's record
    hashes: dict[str, str]  # SHA-256 of each file's content, by `SET//NAME`


def open_sets(run: Run, recipe: Recipe, show: Show) -> dict[str, ValidationSet]:
    """Return a run's sets by name; packed or fetched on first use.

    Raises:
        DataError: Images can't be used, none is large enough, or they differ from those the run was started with.
        ConfigError: They are pairs, and the recipe's crop can't be cut from both.
    """
    found = {}
    for name, spec in run.validation_sets.items():
        try:
            found[name] = _opened(name, spec, run, recipe, show)
        except (ConfigError, DataError) as error:
            raise type(error)(f"validation set {name}: {error}") from error
    return found


def _opened(name: str, spec: str, run: Run, recipe: Recipe, show: Show) -> ValidationSet:
    crop, tiling, options = recipe.crop, recipe.generator.tiling, run.options
    store, index = packed_judging(spec, show, tiling.scale, max_bad_fraction=options.max_bad)
    if run.validation_fingerprints.get(name, store.fingerprint) != store.fingerprint:
        raise DataError(f"the images of {spec} here differ from those the run was started with")
    if store.paired:
        crop.require_pairs(tiling.scale)
    try:
        images = ValidationImages(store, crop, tiling.scale, options.validation_side, tiling.size_multiple)
    except DataError as error:
        raise DataError(f"{spec}: {error}") from error
    facts = {"source": spec, "fingerprint": store.fingerprint, "images": len(images)}
    facts |= {"too_small": len(store) - len(images), "refused": index.reasons()}
    hashes = {f"{name}{MARK}{file}": sha256 for file, sha256 in index.hashes().items()}
    return ValidationSet(images, store.fingerprint, facts, hashes)


def warnings(sets: Mapping[str, ValidationSet], trained_on: set[str]) -> Iterator[str]:
    """Yield in words which sets are large, or hold images that are trained on, too; `trained_on` are SHA-256."""
    for name, found in sets.items():
        if len(found.images) > MANY:
            yield (
                f"warning: validation set {name} has {len(found.images):,} images, which are all measured at each "
                "evaluation: a folder of fewer takes less time"
            )
        files = [f"{name}{MARK}{file}" for file in found.images.store.names]
        if seen := [file for file in files if found.hashes[file] in trained_on]:
            example = printable(seen[0].removeprefix(f"{name}{MARK}"))
            yield (
                f"warning: {len(seen)} of {len(files)} images of validation set {name} are trained on, such as "
                f"{example}: its values say little of others"
            )


def changed_sets(
    before: Mapping[str, str], now: Mapping[str, str], hashes_before: Mapping[str, str], hashes: Mapping[str, str]
) -> list[str]:
    """Return in words which sets hold other images than they did; one that is new, or left out, is no change.

    Args:
        before: Fingerprints, by the sets' names.
        now: The same of today.
        hashes_before: SHA-256 of all image files of a run, by name, as in its files.json.
        hashes: The same of today.
    """
    return [
        f"images of validation set {name}: {changes(of_set(name, hashes_before), of_set(name, hashes))}"
        for name in now
        if before.get(name, now[name]) != now[name]
    ]


def of_set(name: str, hashes: Mapping[str, str]) -> dict[str, str]:
    """Return those of some hashes that are of a set's files, by the names of these."""
    mark = f"{name}{MARK}"
    return {file.removeprefix(mark): sha256 for file, sha256 in hashes.items() if file.startswith(mark)}


def of_no_set(hashes: Mapping[str, str]) -> dict[str, str]:
    """Return those of some hashes that are of a run's own files."""
    return {file: sha256 for file, sha256 in hashes.items() if MARK not in file}
