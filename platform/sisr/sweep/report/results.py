"""The folder `results` of a sweep: leaderboard, pictures, and a page that needs nothing beside itself."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from sisr.disk import atomic
from sisr.pictures.page import render
from sisr.sweep.report import board, gallery, headline, numbers, plots, plots_compared
from sisr.sweep.report.drawing import NARROW, WIDE
from sisr.sweep.report.importance import importance
from sisr.sweep.report.svg import STYLE, svg
from sisr.sweep.space.axes import axes
from sisr.sweep.state import Sweep, baseline
from sisr.terminal.console import finite

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = "results"
TOP = 12  # trials whose samples are shown
PICTURES_LIMIT = 5_000_000  # characters of samples in the page; plots and table take the rest of 8 MB
FILES = {
    "What mattered": "importance.svg",
    "Where the good ones lie": "parallel.svg",
    "How they learned": "curves.svg",
    "What is traded for what": "front.svg",
    "Schedules and copies": "schedules.svg",
}
# What version 0.1.0 wrote in their places.
EARLIER = {name.replace(".svg", ".png") for name in FILES.values()}


@dataclass(frozen=True)
class Plot:
    """One picture of a sweep, as SVG."""

    file: str  # with its style
    inside: list[Markup]  # a page: for a screen, and for a telephone where that is another


Draw = Callable[[float], "Figure"]  # by the width in inches


def write(folder: Path, sweep: Sweep) -> list[Path]:
    """Write a sweep's results, replacing older ones, and return their paths; the page comes last.

    A sweep that has just begun has fewer pictures; sample pictures that are missing or damaged are left out.

    Raises:
        DiskError: They can't be written.
    """
    target, rows, bicubic = folder / FOLDER, board.rows(sweep), baseline(folder, sweep)
    drawn, notes = _plots(sweep, bicubic)
    samples = gallery.step_samples(folder, sweep, TOP, PICTURES_LIMIT)
    html = _page(sweep, rows, headline.sentences(sweep, bicubic), drawn, notes, samples)
    table = json.dumps(finite(board.as_json(sweep, rows)), indent=1, default=str) + "\n"
    contents = {"leaderboard.json": table.encode()}
    contents |= {FILES[title]: plot.file.encode() for title, plot in drawn.items()}
    contents["index.html"] = html.encode(errors="replace")
    for name in {*FILES.values(), *EARLIER} - set(contents):  # of an earlier state of the sweep
        with suppress(OSError):
            (target / name).unlink()
    for name, content in contents.items():
        with atomic.file(target / name) as unfinished:
            unfinished.write_bytes(content)
    return [target / name for name in contents]


def _plots(sweep: Sweep, bicubic: dict[str, float]) -> tuple[dict[str, Plot], dict[str, str]]:
    """Return the pictures that have something to show, by title, and the notes below them, by title."""
    found = importance(sweep)
    wanted: dict[str, Draw] = {}
    notes = {"What mattered": found.caption}
    if found.shares:
        wanted["What mattered"] = partial(plots.draw_importance, found)
    if sweep.ranking():
        if axes(sweep):
            wanted["Where the good ones lie"] = lambda _: plots.draw_parallel(sweep)
        wanted["How they learned"] = partial(plots.draw_curves, sweep, bicubic)
        if measures := plots_compared.pair(sweep):
            fronts = plots_compared.fronts(sweep, measures)
            wanted["What is traded for what"] = partial(plots_compared.draw_front, fronts, measures)
            notes["What is traded for what"] = plots_compared.about(sweep, fronts)
        if any(trial.exploits for trial in sweep.trials) and axes(sweep):
            wanted["Schedules and copies"] = partial(plots_compared.draw_schedules, sweep)
    return {title: _drawn(title, draw) for title, draw in wanted.items()}, notes


def _drawn(title: str, draw: Draw) -> Plot:
    wide, narrow = draw(WIDE), draw(NARROW)
    inside = [Markup(svg(wide, title, alone=False))]
    if list(wide.get_size_inches()) != list(narrow.get_size_inches()):
        inside.append(Markup(svg(narrow, title, alone=False)))
    return Plot(svg(wide, title, alone=True), inside)


def _page(
    sweep: Sweep,
    rows: Sequence[board.Row],
    sentences: Sequence[str],
    drawn: Mapping[str, Plot],
    notes: Mapping[str, str],
    samples: Sequence[gallery.StepSamples],
) -> str:
    """Return the page of a sweep, its leaderboard `rows`, what it found, plots `drawn` and sample pictures.

    `notes` stand below the plots of the same titles, or in the place of those that there are not.
    """
    plan = sweep.plan
    goals = " and ".join(f"{numbers.own(sweep, metric)} {mode}" for metric, mode in plan.measures)
    search = f"{plan.search} search" + ("" if plan.scheduler == "none" else f", {plan.scheduler}")
    return render(
        "sweep/report/page.html",
        styles=[STYLE, "sweep/report/page.css"],
        scripts=["sweep/report/page.js"],
        plan=plan,
        facts=f"{plan.recipe} · {goals} · {search} · {plan.steps:,} steps · {sweep.state}: {board.states(sweep)}",
        sentences=sentences,
        best=sweep.best(),
        columns=board.columns(sweep, rows),
        settings=list(dict.fromkeys(name for row in rows for name in row.params)),
        rows=rows,
        short=numbers.short,
        in_one_line=numbers.settings,
        samples=samples,
        plots=[
            {"title": title, "svgs": drawn[title].inside if title in drawn else [], "note": notes.get(title)}
            for title in dict.fromkeys((*drawn, *notes))
        ],
    ).html
