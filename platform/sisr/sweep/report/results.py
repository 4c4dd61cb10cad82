"""The folder `results` of a sweep: leaderboard, pictures, and a page that needs nothing beside itself."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from sisr.disk import atomic
from sisr.pictures.page import data_address, render
from sisr.sweep.report import board, gallery, headline, numbers, plots, plots_compared
from sisr.sweep.report.importance import importance
from sisr.sweep.space.axes import axes
from sisr.sweep.state import Sweep, baseline
from sisr.terminal.console import finite

FOLDER = "results"
TOP = 12  # trials whose samples are shown
PICTURES_LIMIT = 5_000_000  # characters of samples in the page; plots and table take the rest of 8 MB
FILES = {
    "What mattered": "importance.png",
    "Where the good ones lie": "parallel.png",
    "How they learned": "curves.png",
    "What is traded for what": "front.png",
    "Schedules and copies": "schedules.png",
}


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
    contents |= {FILES[title]: content for title, content in drawn.items()}
    contents["index.html"] = html.encode(errors="replace")
    for name in {*FILES.values()} - set(contents):  # of an earlier state of the sweep
        with suppress(OSError):
            (target / name).unlink()
    for name, content in contents.items():
        with atomic.file(target / name) as unfinished:
            unfinished.write_bytes(content)
    return [target / name for name in contents]


def _plots(sweep: Sweep, bicubic: dict[str, float]) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return the pictures that have something to show, by title, and the notes below them, by title."""
    found = importance(sweep)
    drawn, notes = {}, {"What mattered": found.caption}
    if found.shares:
        drawn["What mattered"] = plots.draw_importance(found)
    if not sweep.ranking():
        return drawn, notes
    if axes(sweep):
        drawn["Where the good ones lie"] = plots.draw_parallel(sweep)
    drawn["How they learned"] = plots.draw_curves(sweep, bicubic)
    if measures := plots_compared.pair(sweep):
        drawn["What is traded for what"] = plots_compared.draw_front(sweep, measures)
    if any(trial.exploits for trial in sweep.trials) and axes(sweep):
        drawn["Schedules and copies"] = plots_compared.draw_schedules(sweep)
    return drawn, notes


def _page(
    sweep: Sweep,
    rows: Sequence[board.Row],
    sentences: Sequence[str],
    plots: Mapping[str, bytes],
    notes: Mapping[str, str],
    samples: Sequence[gallery.StepSamples],
) -> str:
    """Return the page of a sweep, its leaderboard `rows`, what it found, PNG `plots` and sample pictures.

    `notes` stand below the plots of the same titles, or in the place of those that there are not.
    """
    plan = sweep.plan
    goals = " and ".join(f"{metric} {mode}" for metric, mode in plan.measures)
    search = f"{plan.search} search" + ("" if plan.scheduler == "none" else f", {plan.scheduler}")
    drawn = {title: data_address(content, "image/png") for title, content in plots.items()}
    return render(
        "sweep/report/page.html",
        styles=["sweep/report/page.css"],
        scripts=["sweep/report/page.js"],
        plan=plan,
        facts=f"{plan.recipe} · {goals} · {search} · {plan.steps:,} steps · {sweep.state}: {board.states(sweep)}",
        sentences=sentences,
        best=sweep.best(),
        columns=board.columns(plan, rows),
        settings=list(dict.fromkeys(name for row in rows for name in row.params)),
        rows=rows,
        short=numbers.short,
        in_one_line=numbers.settings,
        samples=samples,
        plots=[
            {"title": title, "address": drawn.get(title), "note": notes.get(title)}
            for title in dict.fromkeys((*plots, *notes))
        ],
    ).html
