"""The leaderboard of a sweep: rows for programs, and a table that fits a terminal."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from typing import Any

from sisr.metrics.catalogue import AT_VALIDATION, value_of
from sisr.sweep.report import numbers
from sisr.sweep.state import Sweep, Trial
from sisr.terminal.console import duration

MEASURED = tuple(f"val/{metric.name}" for metric in AT_VALIDATION)  # shown of every trial, objective or not
SETTINGS_WIDTH = 44  # characters that a table leaves to the settings before it leaves out a column
BORDERS = 3  # characters between two columns


@dataclass(frozen=True)
class Row:
    """One trial on the leaderboard."""

    rank: int | None  # from 1; None: diverged, failed or never evaluated
    trial: int
    state: str  # as `numbers.state_of`
    step: int  # of its last evaluation; of a trial without a rank, of its end
    objective: tuple[float | None, ...]  # one value for each of the plan's
    measured: dict[str, float | None]  # by the names of `MEASURED` without `val/`
    params: dict[str, Any]
    seconds: float
    copies: int  # of other trials, by PBT
    pareto: bool  # no other trial at the furthest step is better in both objectives
    message: str  # why it diverged or failed


def rows(sweep: Sweep) -> list[Row]:
    """Return all trials, ranked ones first and the best of them at the top."""
    ranked = sweep.ranking()
    front = {trial.number for trial in sweep.pareto()} if ranked and len(sweep.plan.objective) == 2 else set()
    with_rank = {trial.number for trial in ranked}
    found = [_row(sweep, trial, rank, front) for rank, trial in enumerate(ranked, 1)]
    return found + [_row(sweep, trial, None, front) for trial in sweep.trials if trial.number not in with_rank]


def _row(sweep: Sweep, trial: Trial, rank: int | None, front: set[int]) -> Row:
    return Row(
        rank,
        trial.number,
        numbers.state_of(sweep, trial),
        trial.evaluated_at if rank else trial.step,
        tuple(value_of(trial.values, metric) for metric in sweep.plan.objective),
        {numbers.metric_name(metric): value_of(trial.values, metric) for metric in MEASURED},
        dict(trial.params),
        round(trial.seconds, 1),
        len(trial.exploits),
        trial.number in front,
        trial.message,
    )


def counts(sweep: Sweep) -> dict[str, int]:
    """Return how many trials are in each state, and how many of the plan's are still to come."""
    found = Counter(numbers.state_of(sweep, trial) for trial in sweep.trials)
    to_come = sweep.plan.trials - len(sweep.trials)
    if to_come > 0 and sweep.state == "running":
        found["to come"] = to_come
    return dict(found)


def states(sweep: Sweep) -> str:
    """Return the same in words."""
    return ", ".join(f"{count} {state}" for state, count in counts(sweep).items()) or "no trial yet"


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
        "trials": [{**row.pop("measured"), **row} for row in map(asdict, shown)],
    }


@dataclass(frozen=True)
class Column:
    """One column of the leaderboard."""

    title: str
    key: Callable[[Row], Any]  # what rows are sorted by
    text: Callable[[Row], str]
    priority: int = 0  # 0: always shown; a narrow terminal leaves out the columns with the largest numbers first


def columns(sweep: Sweep, shown: Sequence[Row]) -> list[Column]:
    """Return the columns before the settings, without optional ones that are empty in all rows."""
    made = [
        Column("#", attrgetter("rank"), lambda row: f"{row.rank or ''}{'*' if row.pareto else ''}"),
        Column("trial", attrgetter("trial"), lambda row: str(row.trial)),
        Column("state", attrgetter("state"), attrgetter("state")),
        Column("step", attrgetter("step"), lambda row: f"{row.step:,}"),
    ]
    for i, metric in enumerate(sweep.plan.objective):
        made.append(_value_column(sweep, metric, i, 0))
    for priority, metric in enumerate(MEASURED, 1):
        if metric not in sweep.plan.objective:
            made.append(_value_column(sweep, metric, None, priority))
    if any(row.copies for row in shown):
        made.append(Column("copies", attrgetter("copies"), lambda row: str(row.copies), 6))
    made.append(Column("time", attrgetter("seconds"), lambda row: duration(row.seconds) if row.seconds else "", 5))
    return [column for column in made if column.priority == 0 or any(map(column.text, shown))]


def _value_column(sweep: Sweep, metric: str, objective: int | None, priority: int) -> Column:
    name, own = numbers.metric_name(metric), numbers.own(sweep, metric)

    def value(row: Row) -> float | None:
        return row.measured[name] if objective is None else row.objective[objective]

    return Column(numbers.title(own), value, lambda row: numbers.number(own, value(row)), priority)


def table(sweep: Sweep, shown: Sequence[Row], width: int) -> tuple[list[str], list[list[str]]]:
    """Return the titles and cells of a table that is readable in `width` characters.

    Columns are left out by their priority until the settings have room.
    """
    chosen = columns(sweep, shown)
    settings = [numbers.settings(row.params) for row in shown]
    room = width - min(max(map(len, settings), default=0), SETTINGS_WIDTH) - BORDERS
    while sum(_width(column, shown) for column in chosen) > room:
        least = max(chosen, key=lambda column: column.priority)
        if least.priority == 0:
            break
        chosen.remove(least)
    cells = [[*(column.text(row) for column in chosen), text] for row, text in zip(shown, settings, strict=True)]
    return [*(column.title for column in chosen), "settings"], cells


def _width(column: Column, shown: Sequence[Row]) -> int:
    return max(len(column.title), *(len(column.text(row)) for row in shown), 0) + BORDERS
