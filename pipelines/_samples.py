"""A run's sample pictures and what was measured at their steps: what `sisr animate` draws."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sisr.metrics.catalogue import PIXELS, Metric

if TYPE_CHECKING:
    from sisr.pictures.animation import Sample
    from sisr.pictures.contact_sheet import Layout

SHOWN = [metric for metric in PIXELS if metric.always]
MAX_FRAMES = 300  # all are in memory while they are encoded


def find(name: str, runs: Path) -> Path:
    """Return the folder of the run called `name`, or at the path `name`.

    Raises:
        ConfigError: There is none.
    """
    from sisr.config.suggest import did_you_mean
    from sisr.errors import ConfigError

    for folder in (runs / name, Path(name)):
        if (folder / "run.json").is_file():
            return folder
    known = sorted(path.parent.name for path in runs.glob("*/run.json"))
    there = f"there are {', '.join(known)}" if known else f"{runs} holds none: name their folder with --runs"
    raise ConfigError(f"no run '{name}' in {runs}, and no folder of that name; {did_you_mean(name, known) or there}")


def read_samples(folder: Path) -> "list[Sample]":
    """Return a run's sample pictures in the order of their steps, with the words to stand below them.

    Raises:
        DataError: There are none.
    """
    from sisr.errors import DataError
    from sisr.pictures.animation import Sample
    from sisr.pictures.contact_sheet import FOLDER, pictures

    found = pictures(folder)
    if not found:
        place = folder / FOLDER
        raise DataError(f"run {folder.name} has no sample pictures in {place}; each evaluation in training adds one")
    metrics = _metrics(folder)
    bicubic: dict[str, float] = {}
    for values in metrics.values():
        bicubic |= {name: value for name, value in values.items() if name.startswith("val/bicubic_")}
    beside = f"bicubic {', '.join(_number(bicubic, 'val/bicubic_', metric) for metric in SHOWN)}"
    return [Sample(step, found[step], (*_words(step, metrics.get(step, {})), beside)) for step in found]


def _words(step: int, values: Mapping[str, float]) -> tuple[str, ...]:
    return f"step {step:,}", *(f"{metric.title} {_number(values, 'val/', metric)}" for metric in SHOWN)


def _number(values: Mapping[str, float], prefix: str, metric: Metric) -> str:
    name = prefix + metric.name
    return metric.text(values[name]) if name in values else "?"


def _metrics(folder: Path) -> dict[int, dict[str, float]]:
    """Return what was recorded of each step; the last value counts, as it does for the pictures."""
    from sisr.disk.journal import rows
    from sisr.tracking import outbox

    found: dict[int, dict[str, float]] = {}
    with suppress(FileNotFoundError):
        for row, _ in rows(folder / outbox.FILE):
            if row and row["op"] == "metrics":
                found.setdefault(row["step"], {}).update(row["values"])
    return found


def spaced(samples: "list[Sample]", first: int, last: int | None, every: int) -> "list[Sample]":
    """Return the samples from `first` to `last`, at least `every` steps apart; the last one is among them.

    Raises:
        DataError: There are fewer than two.
    """
    from sisr.errors import DataError

    inside = [sample for sample in samples if first <= sample.step and (last is None or sample.step <= last)]
    chosen: list[Sample] = []
    for sample in inside:
        if not chosen or sample.step - chosen[-1].step >= every:
            chosen.append(sample)
    if inside and chosen[-1] is not inside[-1]:
        chosen.append(inside[-1])
    if len(chosen) < 2:
        there = ", ".join(f"{sample.step:,}" for sample in samples[:5]) + (" ..." if len(samples) > 5 else "")
        wanted = "train on, or widen --steps" if len(samples) > 1 else "train on; evaluate_every sets how often"
        raise DataError(
            f"an animation wants two pictures at least, found {len(chosen)} of {len(samples)} (step {there}): {wanted}"
        )
    return chosen


def alike(folder: Path, samples: "list[Sample]") -> "tuple[Layout, list[Sample], list[str]]":
    """Return how the newest picture is divided, the pictures divided likewise, and in words what was left out.

    Raises:
        CheckpointError: The run's record can't be read.
        DataError: Fewer than two pictures are divided in one way.
    """
    from sisr.errors import DataError
    from sisr.pictures.animation import spread
    from sisr.pictures.contact_sheet import layout_of, size

    layout = layout_of(folder, samples[-1].path)
    same = [sample for sample in samples if layout.count_rows(size(sample.path))]
    notes = []
    if len(same) < len(samples):
        notes.append(f"left out {len(samples) - len(same)} pictures whose cells have another size than the newest's")
    if len(same) < 2:
        raise DataError(f"no two pictures of run {folder.name} have cells of the same size")
    if len(same) > MAX_FRAMES:
        notes.append(f"{MAX_FRAMES} of {len(same)} pictures; --steps shows others")
        same = [same[i] for i in spread(len(same), MAX_FRAMES)]
    return layout, same, notes
