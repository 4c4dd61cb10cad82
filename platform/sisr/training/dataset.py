"""The images of a run, packed and split, the same on every worker."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from sisr.config.wording import printable
from sisr.data import outputs
from sisr.data.augment import Crop
from sisr.data.index import Index
from sisr.data.pairs import PairedFolder, are_plain, of_scale, packed_pairs
from sisr.data.sources.catalogue import Packed, Show, open_packed
from sisr.data.store import Store
from sisr.data.validation import ValidationImages
from sisr.errors import DataError
from sisr.recipe import Recipe
from sisr.terminal.console import err, note, progress
from sisr.training.crop_advice import crop_advice
from sisr.training.run import Run
from sisr.training.validation_sets import ValidationSet, open_sets
from sisr.training.validation_sets import warnings as of_sets


@dataclass(frozen=True)
class TrainingData:
    """What a run trains on and what it holds out."""

    store: Store  # images that hold a whole training window
    validation: ValidationImages  # their sides are multiples of the scale
    fingerprint: str  # of all files, their contents and the split
    facts: dict[str, Any]  # counts and reasons, for the run's record
    hashes: dict[str, str]  # SHA-256 of each file's content, by name
    held_out: list[str]  # names of the files that are not trained on
    scale: int | None = None  # hr side / lr side, where lr is given; None: the recipe makes lr
    sets: dict[str, ValidationSet] = field(default_factory=dict)  # further validation sets, by name
    mixed: str = ""  # why these are no images to train on, where low resolution lies among them as if it were originals

    @property
    def fingerprints(self) -> dict[str, Any]:
        """The fields by which a `Run` or a sweep's plan knows that the images are the same."""
        sets = {name: found.fingerprint for name, found in self.sets.items()}
        return {"fingerprint": self.fingerprint, "validation_fingerprints": sets}


def open_data(run: Run, recipe: Recipe, *, show: bool = False) -> TrainingData:
    """Return a run's images; packed or fetched on first use, opened after.

    Args:
        run: Names the source, and the fingerprint that the images must have where it is already known.
        recipe: Its crop cuts training examples, and smaller images are left out, and counted.
        show: Show on stderr how far packing or fetching is, also on a terminal; there, once is enough.

    Raises:
        DataError: Images can't be used, are too few, or differ from those the run was started with.
        ConfigError: They are pairs, and the recipe's crop can't be cut from both.
    """
    crop, tiling = recipe.crop, recipe.generator.tiling
    shown = progress if show or not err.is_terminal else _quietly
    source, index = _opened(run, crop, tiling.scale, shown)
    packed = source.store
    train = packed.subset(source.train)
    left, top, wide, high = crop.box or (0, 0, crop.window, crop.window)
    large = train.at_least(left + wide, top + high)
    if not len(large):
        raise DataError(
            f"{run.data}: none of {len(train)} images is as large as the training window, {left + wide}x{top + high} "
            f"px{crop_advice(run, train.shapes[:, 1:])}"
        )
    held = packed.subset(source.held_out)
    facts = _facts(source, index, large) | {"too_small": len(train) - len(large)}
    try:
        limit, multiple = run.options.validation_side, tiling.size_multiple
        validation = ValidationImages(held, crop, tiling.scale, limit, multiple)
    except DataError as error:
        raise DataError(f"{run.data}: {error}{crop_advice(run, held.shapes[:, 1:])}") from error
    sets, hashes = open_sets(run, recipe, shown), index.hashes()
    if sets:
        facts["validation_sets"] = {name: found.facts for name, found in sets.items()}
    mixed = packed_pairs(packed) if show else []
    is_mixed = are_plain(mixed, len(packed))
    if show:
        warnings = [] if is_mixed else [f"warning: {found.explained(run.data)}" for found in mixed]
        said = of_sets(sets, {hashes[name] for name in large.names})
        named = [*_left_out(run.data, index), *_enlarged(run.data, packed, mixed)]
        for text in (*named, *warnings, *_partly_validated(run.data, source, held), *said):
            note(printable(text))
    return TrainingData(
        large,
        validation,
        packed.fingerprint,
        facts,
        hashes | {name: sha256 for found in sets.values() for name, sha256 in found.hashes.items()},
        [
            *source.held_out,
            *(f"{name} (lr)" for name in source.held_out if packed.paired),
            *(name for found in sets.values() for name in found.hashes),
        ],
        tiling.scale if packed.paired else None,
        sets,
        printable(mixed[0].explained(run.data)) if is_mixed else "",
    )


def _left_out(spec: str, index: Index) -> Iterator[str]:
    """Yield which files can't be used."""
    if index.refused:
        count = f"{len(index.refused):,} of {len(index.verdicts):,} files"
        yield f"warning: {spec}: {count} can't be used, and are left out:"
        yield from index.offenders()


def _enlarged(spec: str, packed: Store, mixed: Sequence[PairedFolder]) -> Iterator[str]:
    """Yield which images are called as what `sisr upscale` writes, beside those of which the original is among them."""
    paired = {name for folder in mixed for pair in folder.pairs for name in (pair.lr, pair.hr)}
    if made := [name for name in outputs.among(packed.names) if name not in paired]:
        many = f"{made[0]} and {len(made) - 1:,} more are" if len(made) > 1 else f"{made[0]} is"
        yield f"warning: {spec}: {many} {outputs.REMEDY.format('them' if len(made) > 1 else 'it')}"


def _facts(source: Packed, index: Index, large: Store) -> dict[str, Any]:
    """Return what a run records of its images, of which `large` are trained on."""
    held, packed = source.held_out, source.store
    return {
        "source": source.name,
        "fingerprint": packed.fingerprint,
        "train": len(large),
        "held_out": len(held),
        "held_out_of": source.held_out_of,
        "refused": index.reasons(),
        "converted": index.notes(),
        **({"lr": "given"} if packed.paired else {}),
        **({"validated_on": packed.subset(held).names} if source.held_out_of > len(held) else {}),
    }


def _opened(run: Run, crop: Crop, scale: int, shown: Show) -> tuple[Packed, Index]:
    """Return the images, of pairs those of the recipe's scale, and the verdicts on all files; errors as `open_data`."""
    source = open_packed(run.data, run.validation, shown, max_bad_fraction=run.options.max_bad)
    if run.fingerprint and source.store.fingerprint != run.fingerprint:
        raise DataError(f"the images of {run.data} here differ from those the run was started with")
    if not source.store.paired:
        return source, source.store.index
    crop.require_pairs(scale)
    store, index = of_scale(source.store, scale, run.data, run.options.max_bad)
    return replace(source, store=store), index


def refuse_mixed(data: TrainingData, *, begun: bool) -> None:
    """Raise DataError if low resolution lies among images as if it were originals.

    Where a run with them has `begun`, when this was no error yet, a warning is printed instead.
    """
    if data.mixed and not begun:
        raise DataError(data.mixed)
    if data.mixed:
        note(data.mixed)


def _partly_validated(spec: str, source: Packed, held: Store) -> Iterator[str]:
    if source.held_out_of > len(source.held_out) and held.names:
        which = f"{len(held)} of {source.held_out_of} held-out images, {held.names[0]} to {held.names[-1]}"
        yield f"validation while training uses {which}; `sisr evaluate --data {spec}` uses all"


@contextmanager
def _quietly(description: str, total: int) -> Iterator[Callable[..., None]]:
    yield lambda count=1: None
