"""Shows a sweep while it runs: a live table on a terminal, plain lines elsewhere."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sisr.metrics.catalogue import name_in, value_of
from sisr.sweep import schedulers
from sisr.sweep.report import numbers
from sisr.sweep.report.board import states
from sisr.sweep.state import ENDED, LOST, Sweep, Trial, folder_of
from sisr.terminal.console import duration, err, note_progress

MOST_RUNNING = 16  # lines; more trials at a time are counted only


class SweepDisplay:
    """A sweep's progress on stderr; use as a context manager and call `refresh` a few times a second."""

    def __init__(self, folder: Path, sweep: Sweep) -> None:
        """Show `sweep`, which its driver keeps changing, and what its trials write below `folder`."""
        self._folder, self._sweep = folder, sweep
        self._live = Live(console=err, refresh_per_second=2, transient=True) if err.is_terminal else None
        self._seen = {trial.number: _mark(trial) for trial in sweep.trials}  # of earlier attempts: shown then
        best = sweep.best()
        self._best = (best.number, best.evaluated_at) if best else None

    def __enter__(self) -> "SweepDisplay":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.refresh()
        if self._live:
            self._live.stop()

    def refresh(self) -> None:
        """Say what is new, and show how things stand now."""
        for trial in self._sweep.trials:
            mark = _mark(trial)
            if mark != self._seen.get(trial.number) and trial.state not in ("waiting", "running"):
                self._seen[trial.number] = mark
                if self._live is None or trial.state in LOST:
                    note_progress(ending(self._sweep, trial))
        best = self._sweep.best()
        if best and (best.number, best.evaluated_at) != self._best:
            self._best = (best.number, best.evaluated_at)
            note_progress(f"best of those furthest on: {summary(self._sweep, best)}")
        if self._live:
            self._live.update(view(self._folder, self._sweep, best))


def _mark(trial: Trial) -> tuple[str, int, int]:
    return trial.state, trial.step, len(trial.curve)


def view(folder: Path, sweep: Sweep, best: Trial | None) -> Group:
    """Return what a terminal shows: counts and time left, the running trials, the best one so far."""
    running = [trial for trial in sweep.trials if trial.state == "running"]
    statuses = {trial.number: folder_of(folder, trial).status() for trial in running[:MOST_RUNNING]}
    done = {number: int(found.get("step", 0)) for number, found in statuses.items()}
    left = remaining_seconds(sweep, done)
    time_left = f" | about {duration(left)} left" if left is not None else ""
    parts: list[Any] = [Text(f"sweep {sweep.plan.name}: {states(sweep)}{time_left}")]
    if running:
        parts.append(_running_table(sweep, running[:MOST_RUNNING], statuses))
    if len(running) > MOST_RUNNING:
        parts.append(Text(f"and {len(running) - MOST_RUNNING} more running"))
    return Group(
        *parts, *([Text(f"best of those furthest on: {summary(sweep, best)}", overflow="fold")] if best else [])
    )


def _running_table(sweep: Sweep, running: list[Trial], statuses: dict[int, dict[str, Any]]) -> Table:
    objective = sweep.plan.objective
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("trial", "step", *(numbers.title(numbers.own(sweep, metric)) for metric in objective)):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("settings", overflow="fold")
    for trial in running:
        found = statuses[trial.number]
        values = found.get("validation") or trial.values
        step = max(int(found.get("step", 0)), trial.step)
        cells = [str(trial.number), f"{step:,}/{trial.until:,}"]
        cells += [numbers.number(name_in(values, metric), value_of(values, metric)) for metric in objective]
        table.add_row(*map(Text, [*cells, numbers.settings(trial.params)]))
    return table


def summary(sweep: Sweep, trial: Trial) -> str:
    """Return a trial in one line: its values, its step, its settings."""
    values = numbers.listed(sweep.plan.objective, trial.values)
    where = f"{values or 'not evaluated'} at step {trial.evaluated_at:,}"
    return f"trial {trial.number}, {where}: {numbers.settings(trial.params)}"


def ending(sweep: Sweep, trial: Trial) -> str:
    """Return in one line how a trial ended or why it stands still."""
    if trial.state in LOST:
        reason = " ".join(trial.message.split()) or "no reason given"
        return f"trial {trial.number} {trial.state} at step {trial.step:,}: {reason} ({numbers.settings(trial.params)})"
    return f"{summary(sweep, trial)} ({numbers.state_of(sweep, trial)}, {duration(trial.seconds)})"


def remaining_steps(sweep: Sweep, done: Mapping[int, int]) -> int:
    """Return how many steps a sweep still takes, about, summed over its trials.

    `done` are the steps of running trials, by number, of which the ledger doesn't know yet; it may be empty.
    """
    plan, scheduler = sweep.plan, schedulers.scheduler_of(sweep)
    remaining = 0.0
    for level, (low, high) in enumerate(pairwise((0, *scheduler.goals(plan.steps, 0)))):
        inside = [min(max(done.get(t.number, t.step), t.step, low), high) - low for t in sweep.trials]
        given_up = sum(high - low - part for t, part in zip(sweep.trials, inside, strict=True) if t.state in ENDED)
        possible = plan.trials * (high - low) - sum(inside) - given_up
        expected = scheduler.expected(plan.trials, level) * (high - low) - sum(inside)
        remaining += max(0.0, min(expected, possible))
    return round(remaining)


def remaining_seconds(sweep: Sweep, done: Mapping[int, int]) -> float | None:
    """Return how long a sweep still takes at the speed of its trials so far and as many at a time as now.

    None as long as no trial has ended or paused, or none is running.
    """
    running = sum(trial.state == "running" for trial in sweep.trials)
    seconds, steps = sum(t.seconds for t in sweep.trials), sum(t.step for t in sweep.trials if t.seconds)
    if not running or not steps or not seconds:
        return None
    return remaining_steps(sweep, done) * seconds / steps / running
