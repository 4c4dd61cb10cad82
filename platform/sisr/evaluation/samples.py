"""A run's sample pictures in the order of their steps, chosen for an animation."""

from collections.abc import Mapping
from pathlib import Path

from sisr.errors import DataError
from sisr.metrics.catalogue import PIXELS, Metric
from sisr.pictures.animation import Sample, spread
from sisr.pictures.contact_sheet import FOLDER, Layout, layout_of, pictures, size

SHOWN = [metric for metric in PIXELS if metric.always]
MAX_FRAMES = 300  # all are in memory while they are encoded


def read_samples(
    folder: Path, evaluations: Mapping[int, Mapping[str, float]], bicubic: Mapping[str, float]
) -> list[Sample]:
    """Return a run's sample pictures in the order of their steps, with captions.

    Args:
        folder: The run's.
        evaluations: By step, metrics over all held-out images, named `val/...`.
        bicubic: Those of bicubic, without the prefix.

    Raises:
        DataError: There are none.
    """
    found = pictures(folder)
    if not found:
        place = folder / FOLDER
        raise DataError(f"run {folder.name} has no sample pictures in {place}; each evaluation in training adds one")
    beside = f"bicubic {', '.join(_number(bicubic, '', metric) for metric in SHOWN)}"
    samples = []
    for step, path in found.items():
        values = evaluations.get(step, {})
        measured = [f"{metric.title} {_number(values, 'val/', metric)}" for metric in SHOWN]
        samples.append(Sample(step, path, (f"step {step:,}", *measured, beside)))
    return samples


def _number(values: Mapping[str, float], prefix: str, metric: Metric) -> str:
    name = prefix + metric.name
    return metric.text(values[name]) if name in values else "?"


def spaced(samples: list[Sample], first: int, last: int | None, every: int) -> list[Sample]:
    """Return the samples from `first` to `last`, at least `every` steps apart; the last one is among them.

    Raises:
        DataError: There are fewer than two.
    """
    inside = [sample for sample in samples if first <= sample.step and (last is None or sample.step <= last)]
    chosen: list[Sample] = []
    for sample in inside:
        if not chosen or sample.step - chosen[-1].step >= every:
            chosen.append(sample)
    if inside and chosen[-1] is not inside[-1]:
        chosen.append(inside[-1])
    if len(chosen) < 2:
        known = ", ".join(f"{sample.step:,}" for sample in samples[:5]) + (" ..." if len(samples) > 5 else "")
        advice = "train on, or widen --steps" if len(samples) > 1 else "train on; evaluate_every sets how often"
        raise DataError(
            f"an animation needs at least two pictures, found {len(chosen)} of {len(samples)} (step {known}): {advice}"
        )
    return chosen


def alike(folder: Path, samples: list[Sample]) -> tuple[Layout, list[Sample], list[str]]:
    """Return how the newest picture is divided, the pictures divided likewise, and notes on what was left out.

    Raises:
        CheckpointError: The run's record can't be read.
        DataError: Fewer than two pictures are divided in one way.
    """
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
