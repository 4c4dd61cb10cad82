"""The folder `results` of a sweep: leaderboard, pictures and a page."""

import json
from contextlib import suppress
from pathlib import Path

from sisr.disk import atomic
from sisr.sweep.report import board, gallery, headline, plots, plots_compared
from sisr.sweep.report.importance import importance
from sisr.sweep.report.page import page
from sisr.sweep.space.axes import axes
from sisr.sweep.state import Sweep
from sisr.sweep.trial_folder import baseline
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
    html = page(sweep, rows, headline.sentences(sweep, bicubic), drawn, notes, samples)
    table = json.dumps(finite(board.as_json(sweep, rows)), indent=1, default=str) + "\n"
    contents = {"leaderboard.json": table.encode()}
    contents |= {FILES[title]: content for title, content in drawn.items()}
    contents["index.html"] = html.encode(errors="replace")
    for name in {*FILES.values()} - set(contents):  # of an earlier state of the sweep
        with suppress(OSError):
            (target / name).unlink()
    return [_replace(target / name, content) for name, content in contents.items()]


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


def _replace(path: Path, content: bytes) -> Path:
    with atomic.file(path) as unfinished:
        unfinished.write_bytes(content)
    return path
