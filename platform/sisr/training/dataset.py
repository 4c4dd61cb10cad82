"""The images of a run, packed and split, the same on every worker."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sisr.config.wording import printable
from sisr.data.pairs import packed_pairs
from sisr.data.sources.catalogue import Packed, open_packed
from sisr.data.store import Store
from sisr.data.validation import ValidationImages
from sisr.errors import DataError
from sisr.recipe import Recipe
from sisr.terminal.console import err, progress
from sisr.training.run import Run


@dataclass(frozen=True)
class TrainingData:
    """What a run trains on and what it holds out."""

    store: Store  # images that hold a whole training window
    validation: ValidationImages  # their sides are multiples of the scale
    fingerprint: str  # of all files, their contents and the split
    facts: dict[str, Any]  # counts and reasons, for the run's record
    hashes: dict[str, str]  # SHA-256 of each file's content, by name
    held_out: list[str]  # names of the files that are not trained on


def open_data(run: Run, recipe: Recipe, *, show: bool = False) -> TrainingData:
    """Return a run's images; packed or fetched on first use, opened after.

    Args:
        run: Names the source, and the fingerprint that the images must have where it is already known.
        recipe: Its crop cuts training examples, and smaller images are left out, and counted.
        show: Show on stderr how far packing or fetching is, also on a terminal; there, once is enough.

    Raises:
        DataError: Images can't be used, are too few, or differ from those the run was started with.
    """
    crop = recipe.crop
    shown = progress if show or not err.is_terminal else _quietly
    source = open_packed(run.data, run.validation, shown, max_bad_fraction=run.options.max_bad)
    packed = source.store
    if run.fingerprint and packed.fingerprint != run.fingerprint:
        raise DataError(f"the images of {run.data} here differ from those the run was started with")
    train = packed.subset(source.train)
    left, top, wide, high = crop.box or (0, 0, crop.window, crop.window)
    large = train.at_least(left + wide, top + high)
    if not len(large):
        raise DataError(
            f"{run.data}: none of {len(train)} images is as large as the training window, {left + wide} x {top + high} "
            "px: use larger images or a smaller crop"
        )
    held = packed.subset(source.held_out)
    facts: dict[str, Any] = {
        "source": source.name,
        "fingerprint": packed.fingerprint,
        "train": len(large),
        "held_out": len(held),
        "held_out_of": source.held_out_of,
        "too_small": len(train) - len(large),
        "refused": packed.index.reasons(),
        "converted": packed.index.notes(),
    }
    if source.held_out_of > len(source.held_out):
        facts["validated_on"] = held.names
    if show:
        for text in _warnings(run.data, source, held):
            err.print(printable(text), markup=False)
    hashes = {name: verdict.sha256 for name, verdict in packed.index.verdicts.items()}
    tiling = recipe.generator.tiling
    images = ValidationImages(held, crop, tiling.scale, run.options.validation_side, tiling.size_multiple)
    return TrainingData(large, images, packed.fingerprint, facts, hashes, source.held_out)


def _warnings(spec: str, source: Packed, held: Store) -> Iterator[str]:
    """Yield what somebody who trains on a source should know of its images, in words."""
    for found in packed_pairs(source.store):
        yield found.warning(spec)
    if source.held_out_of > len(source.held_out) and held.names:
        which = f"{len(held)} of {source.held_out_of} held-out images, {held.names[0]} to {held.names[-1]}"
        yield f"validation while training uses {which}; `sisr evaluate --data {spec}` uses all"


@contextmanager
def _quietly(description: str, total: int) -> Iterator[Callable[..., None]]:
    yield lambda count=1: None
