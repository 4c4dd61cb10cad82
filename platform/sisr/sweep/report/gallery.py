"""Cells of trials' sample pictures, side by side: the same held-out image, at the same step, by each trial."""

import io
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from PIL import Image

from sisr.errors import SisrError
from sisr.pictures.contact_sheet import COLUMNS, Layout, layout_of, pictures, read
from sisr.pictures.page import data_address
from sisr.sweep.state import Sweep, Trial, folder_of

MOST_STEPS = 3
QUALITIES = (95, 85, 70, 50)  # of WebP; the first that fits is taken
REFERENCES = ("bicubic", "HR")  # columns that are the same for all trials


@dataclass(frozen=True)
class StepSamples:
    """The pictures of one step."""

    step: int
    trials: list[Trial]
    references: dict[str, list[str]]  # by column: one data URI for each held-out image
    sr: list[list[str]]  # by trial: the same
    width: int  # px, of one cell
    height: int

    def rows(self) -> Iterator[list[tuple[str, str]]]:
        """Yield (title, data URI) of the cells of each held-out image, references first."""
        titles = [*self.references, *(f"trial {trial.number}" for trial in self.trials)]
        for cells in zip(*self.references.values(), *self.sr, strict=True):
            yield list(zip(titles, cells, strict=True))


@dataclass(frozen=True)
class _Sheets:
    step: int
    layout: Layout
    sheets: list[tuple[Trial, Image.Image]]


def step_samples(folder: Path, sweep: Sweep, top: int, limit: int) -> list[StepSamples]:
    """Return the pictures of the best `top` trials, for the last step that some of them have, and earlier ones.

    Early stopping leaves trials with pictures of different steps; each step shows those that have one of it, and a step
    is shown only where it adds a trial. A picture that is missing, damaged or divided in another way is left out.
    All together take at most `limit` bytes: WebP's quality gives way first, then steps, then trials.
    """
    chosen = sweep.ranking()[:top]
    found = {trial.number: pictures(folder_of(folder, trial).path) for trial in chosen}
    while chosen:
        sheets = list(_sheets(folder, chosen, found))
        for kept, quality in product(range(len(sheets), 0, -1), QUALITIES):
            made = [_cells(one, quality) for one in sheets[:kept]]
            if sum(map(_bytes, made)) <= limit:
                return made
        chosen = chosen[: len(chosen) // 2] if sheets else []
    return []


def steps_to_show(found: list[set[int]]) -> list[int]:
    """Return the steps, latest first, at which a trial is seen that has no later picture, of its steps `found`."""
    shown: list[int] = []
    seen: set[int] = set()
    for step in sorted({step for steps in found for step in steps}, reverse=True):
        having = {i for i, steps in enumerate(found) if step in steps}
        if not having <= seen:
            shown.append(step)
            seen |= having
    return shown[:MOST_STEPS]


def _sheets(folder: Path, chosen: list[Trial], found: dict[int, dict[int, Path]]) -> Iterator[_Sheets]:
    for step in steps_to_show([set(found[trial.number]) for trial in chosen]):
        sheets, layouts = [], []
        for trial in chosen:
            if path := found[trial.number].get(step):
                with suppress(SisrError, OSError):  # a page with fewer pictures is better than none
                    sheets.append((trial, read(path)))
                    layouts.append(layout_of(folder_of(folder, trial).path, path))
        if layouts:
            layout = Counter(layouts).most_common(1)[0][0]
            yield _Sheets(step, layout, [(trial, sheet) for trial, sheet in sheets if layout.count_rows(sheet.size)])


def _cells(found: _Sheets, quality: int) -> StepSamples:
    layout, first = found.layout, found.sheets[0][1]
    rows = min(layout.count_rows(sheet.size) for _, sheet in found.sheets)
    references = {name: _column(first, layout, name, rows, quality) for name in REFERENCES}
    sr = [_column(sheet, layout, "SR", rows, quality) for _, sheet in found.sheets]
    trials = [trial for trial, _ in found.sheets]
    return StepSamples(found.step, trials, references, sr, layout.column_width, layout.row_height)


def _column(sheet: Image.Image, layout: Layout, name: str, rows: int, quality: int) -> list[str]:
    left, found = COLUMNS.index(name) * layout.column_width, []
    for top in range(layout.header, layout.header + rows * layout.row_height, layout.row_height):
        cell = sheet.crop((left, top, left + layout.column_width, top + layout.row_height))
        file = io.BytesIO()
        cell.save(file, format="WEBP", quality=quality, method=4)
        found.append(data_address(file.getvalue(), "image/webp"))
    return found


def _bytes(samples: StepSamples) -> int:
    return sum(len(uri) for column in (*samples.references.values(), *samples.sr) for uri in column)
