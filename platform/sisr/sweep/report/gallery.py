"""Cells of trials' sample pictures, side by side: the same held-out image, at the same step, by each trial."""

import io
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from sisr.errors import SisrError
from sisr.pictures.contact_sheet import COLUMNS, Layout, layout_of, pictures, read
from sisr.pictures.page import data_address
from sisr.sweep.state import Sweep, Trial
from sisr.sweep.trial_folder import folder_of

MOST_STEPS = 3
QUALITIES = (95, 85, 70, 50)  # of WebP; the first that fits is taken
REFERENCES = ("bicubic", "HR")  # columns that are the same for all trials


@dataclass(frozen=True)
class Wall:
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
class _Hung:
    step: int
    layout: Layout
    sheets: list[tuple[Trial, Image.Image]]


def walls(folder: Path, sweep: Sweep, top: int, limit: int) -> list[Wall]:
    """Return the pictures of the best `top` trials, for the last step that some of them have, and earlier ones.

    Early stopping leaves trials with pictures of different steps; each wall has those that have its step, and a step is
    shown only where it adds a trial. A picture that is missing, damaged or divided in another way is left out.

    Args:
        folder: The sweep's.
        sweep: What is in it.
        top: Largest number of trials.
        limit: Bytes that all pictures together may take; WebP gives way first, then steps, then trials.
    """
    chosen = sweep.ranking()[:top]
    found = {trial.number: pictures(folder_of(folder, trial)) for trial in chosen}
    while chosen:
        hung = list(_hang(folder, chosen, found))
        for kept in range(len(hung), 0, -1):
            for quality in QUALITIES:
                made = [_wall(one, quality) for one in hung[:kept]]
                if sum(map(_bytes, made)) <= limit:
                    return made
        if not hung:
            break
        chosen = chosen[: len(chosen) // 2]
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


def _hang(folder: Path, chosen: list[Trial], found: dict[int, dict[int, Path]]) -> Iterator[_Hung]:
    for step in steps_to_show([set(found[trial.number]) for trial in chosen]):
        sheets, layouts = [], []
        for trial in chosen:
            path = found[trial.number].get(step)
            if path is None:
                continue
            with suppress(SisrError, OSError):  # a page with fewer pictures is better than none
                sheets.append((trial, read(path)))
                layouts.append(layout_of(folder_of(folder, trial), path))
        if layouts:
            layout = Counter(layouts).most_common(1)[0][0]
            yield _Hung(step, layout, [(trial, sheet) for trial, sheet in sheets if layout.count_rows(sheet.size)])


def _wall(hung: _Hung, quality: int) -> Wall:
    layout, first = hung.layout, hung.sheets[0][1]
    rows = min(layout.count_rows(sheet.size) for _, sheet in hung.sheets)
    references = {name: _column(first, layout, name, rows, quality) for name in REFERENCES}
    sr = [_column(sheet, layout, "SR", rows, quality) for _, sheet in hung.sheets]
    return Wall(hung.step, [trial for trial, _ in hung.sheets], references, sr, layout.column_width, layout.row_height)


def _column(sheet: Image.Image, layout: Layout, name: str, rows: int, quality: int) -> list[str]:
    left = COLUMNS.index(name) * layout.column_width
    tops = (layout.header + row * layout.row_height for row in range(rows))
    boxes = ((left, top, left + layout.column_width, top + layout.row_height) for top in tops)
    return [data_address(_webp(sheet.crop(box), quality), "image/webp") for box in boxes]


def _webp(picture: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    picture.save(file, format="WEBP", quality=quality, method=4)
    return file.getvalue()


def _bytes(wall: Wall) -> int:
    return sum(len(uri) for column in (*wall.references.values(), *wall.sr) for uri in column)
