"""The leaderboard of a sweep: rows for programs, and a table that fits a terminal."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from typing import Any

from sisr.sweep.plan import value_of
from sisr.sweep.report import numbers as words
from sisr.sweep.state import Sweep, Trial
from sisr.terminal.console import duration

MEASURED = ("val/psnr_y", "val/ssim_y", "val/perceptual", "val/score")  # shown of every trial, objective or not
SETTINGS_WIDTH = 44  # characters that a table leaves to the settings before it leaves out a column
BORDERS = 3  # characters between two columns


@dataclass(frozen=True)
class Row:
    """One trial on the leaderboard."""

    rank: int | None  # from 1; None: diverged, failed or never evaluated
    trial: int
    state: str  # as `words.state_of`
    step: int  # of its last evaluation; of a trial without a rank, of its end
    objective: tuple[float | None, ...]  # one value for each of the plan's
    psnr_y: float | None  # dB
    ssim_y: float | None
    perceptual: float | None  # whichever distance was measured
    score: float | None
    params: dict[str, Any]
    seconds: float
    copies: int  # of other trials, by PBT
    pareto: bool  # no other trial at the furthest step is better in both objectives
    message: str  # why it diverged or failed


def rows(sweep: Sweep) -> list[Row]:
    """Return all trials, ranked ones first and the best of them at the top."""
    ranked = sweep.ranking()
    front = {trial.number for trial in sweep.pareto()} if ranked and len(sweep.plan.objective) == 2 else set()
    numbers = {trial.number for trial in ranked}
    rest = [trial for trial in sweep.trials if trial.number not in numbers]
    placed = [_row(sweep, trial, rank, front) for rank, trial in enumerate(ranked, 1)]
    return placed + [_row(sweep, trial, None, front) for trial in rest]


def _row(sweep: Sweep, trial: Trial, rank: int | None, front: set[int]) -> Row:
    psnr_y, ssim_y, perceptual, score = (value_of(trial.values, metric) for metric in MEASURED)
    return Row(
        rank,
        trial.number,
        words.state_of(sweep, trial),
        trial.evaluated_at if rank else trial.step,
        tuple(value_of(trial.values, metric) for metric in sweep.plan.objective),
        psnr_y,
        ssim_y,
        perceptual,
        score,
        dict(trial.params),
        round(trial.seconds, 1),
        len(trial.exploits),
        trial.number in front,
        trial.message,
    )


def counts(sweep: Sweep) -> dict[str, int]:
    """Return how many trials are in each state, and how many of the plan's are still to come."""
    found = Counter(words.state_of(sweep, trial) for trial in sweep.trials)
    to_come = sweep.plan.trials - len(sweep.trials)
    if to_come > 0 and sweep.state == "running":
        found["to come"] = to_come
    return dict(found)


def as_json(sweep: Sweep, shown: Sequence[Row]) -> dict[str, Any]:
    """Return the leaderboard for programs."""
    best = sweep.best()
    return {
        "sweep": sweep.plan.name,
        "recipe": sweep.plan.recipe,
        "state": sweep.state,
        "objective": list(sweep.plan.objective),
        "mode": list(sweep.plan.mode),
        "counts": counts(sweep),
        "best": best.number if best else None,
        "trials": [asdict(row) for row in shown],
    }


Column = tuple[str, Callable[[Row], str], int]  # title, cell, and how gladly it is left out: 0 is never


def table(sweep: Sweep, shown: Sequence[Row], width: int) -> tuple[list[str], list[list[str]]]:
    """Return the titles and cells of a table that is readable in `width` characters.

    Columns without any value are left out, then those that matter least, until the settings have room.
    """
    columns = [column for column in _columns(sweep) if column[2] == 0 or any(column[1](row) for row in shown)]
    longest = max([len(words.settings(row.params)) for row in shown], default=0)
    room = width - min(longest, SETTINGS_WIDTH) - BORDERS
    while columns and sum(_width(column, shown) for column in columns) > room:
        least = max(columns, key=lambda column: column[2])
        if least[2] == 0:
            break
        columns.remove(least)
    titles = [title for title, _, _ in columns]
    cells = [[*(cell(row) for _, cell, _ in columns), words.settings(row.params)] for row in shown]
    return [*titles, "settings"], cells


def _width(column: Column, shown: Sequence[Row]) -> int:
    title, cell, _ = column
    return max(len(title), *(len(cell(row)) for row in shown)) + BORDERS if shown else len(title) + BORDERS


def _columns(sweep: Sweep) -> list[Column]:
    objective = sweep.plan.objective
    columns: list[Column] = [
        ("#", lambda row: f"{row.rank or ''}{'*' if row.pareto else ''}", 0),
        ("trial", lambda row: str(row.trial), 0),
        ("state", lambda row: row.state, 0),
        ("step", lambda row: f"{row.step:,}", 0),
    ]
    columns += [_value_column(metric, objective_of(i), 0) for i, metric in enumerate(objective)]
    for matters, metric in enumerate(MEASURED, 1):
        if metric not in objective:
            columns.append(_value_column(metric, attrgetter(words.metric_name(metric)), matters))
    if any(trial.exploits for trial in sweep.trials):
        columns.append(("copies", lambda row: str(row.copies), 6))
    return [*columns, ("time", lambda row: duration(row.seconds) if row.seconds else "", 5)]


def objective_of(index: int) -> Callable[[Row], float | None]:
    """Return what gives a row's value of one of the plan's objectives."""
    return lambda row: row.objective[index]


def _value_column(metric: str, value: Callable[[Row], float | None], matters: int) -> Column:
    return words.metric_name(metric), lambda row: words.number(metric, value(row)), matters
