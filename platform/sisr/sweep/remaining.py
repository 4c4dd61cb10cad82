"""How much of a sweep is still to be done."""

from collections.abc import Mapping
from itertools import pairwise

from sisr.sweep import schedulers
from sisr.sweep.state import ENDED, Sweep


def remaining_steps(sweep: Sweep, done: Mapping[int, int]) -> int:
    """Return how many steps a sweep still takes, about, summed over its trials.

    Args:
        sweep: A sweep.
        done: Steps that running trials, by number, have done since their last evaluation was recorded; may be empty.
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

    Returns:
        None as long as no trial has ended or paused, or none is running.
    """
    running = sum(trial.state == "running" for trial in sweep.trials)
    seconds, steps = sum(t.seconds for t in sweep.trials), sum(t.step for t in sweep.trials if t.seconds)
    if not running or not steps or not seconds:
        return None
    return remaining_steps(sweep, done) * seconds / steps / running
