"""Asynchronous successive halving: the best part of each rung is promoted, as soon as that is known.

Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020, algorithm 2. https://arxiv.org/abs/1810.05934
A trial that diverged counts as one that was worse than all others, at the rungs that it was sent to.
"""

import math
from itertools import pairwise
from typing import ClassVar, Self

from pydantic import Field

from sisr.config.settings import Settings
from sisr.errors import ConfigError
from sisr.sweep.schedulers import Slice
from sisr.sweep.state import LOST, Sweep


class Scheduler(Settings):
    """Successive halving without waiting for a rung to be full."""

    rungs: tuple[int, ...] = Field((), description="steps at which trials are compared, below those of a whole trial")
    eta: int = Field(3, ge=2, description="one of this many trials goes on from each rung; eta in the paper")

    copies: ClassVar[bool] = False

    def planned(self, steps: int, evaluate_every: int | None) -> tuple[Self, int]:
        """Return the rungs, by default after a ninth and a third of the steps, and how often to evaluate."""
        if self.rungs:
            rises = list(self.rungs) == sorted(set(self.rungs))
            if not rises or not 0 < self.rungs[0] <= self.rungs[-1] < steps:
                given = ",".join(map(str, self.rungs))
                raise ConfigError(f"rungs must rise and lie between 0 and steps {steps}, got {given}")
            return self, evaluate_every or self.rungs[0]
        if evaluate_every is not None and evaluate_every >= steps:
            raise ConfigError(
                f"asha compares trials before their end, but evaluate_every {evaluate_every} is no less than their "
                f"steps {steps}: give a smaller one"
            )
        every = evaluate_every or max(1, steps // (2 * self.eta**2))
        marks = {max(1, round(steps / part / every)) * every for part in (self.eta**2, self.eta)}
        return self.model_copy(update={"rungs": tuple(sorted(mark for mark in marks if mark < steps))}), every

    def goals(self, steps: int, trial: int) -> tuple[int, ...]:
        return (*self.rungs, steps)

    def expected(self, trials: int, level: int) -> int:
        return max(1, trials // self.eta**level)

    def next_slice(self, sweep: Sweep) -> Slice | None:
        """Promote the best of a rung as soon as they are known to be among its best part, the highest rung first."""
        goals = self.goals(sweep.plan.steps, 0)
        for rung, goal in reversed(list(pairwise(goals))):
            reached = [t for t in sweep.trials if t.values_at(rung) or (t.state in LOST and t.until >= rung)]
            reached.sort(key=lambda t: (-sweep.score_at(t, rung), t.number))
            for trial in reached[: len(reached) // self.eta]:
                if trial.state == "paused" and trial.step == rung and math.isfinite(sweep.score_at(trial, rung)):
                    return Slice(trial.number, goal)
        if sweep.may_begin:
            return Slice(None, goals[0])
        if any(t.state == "running" for t in sweep.trials):
            return None
        return _finalist(sweep, goals)


def _finalist(sweep: Sweep, goals: tuple[int, ...]) -> Slice | None:
    """Send the best trial on where there were too few for any to be promoted all the way."""
    if any(t.state == "finished" for t in sweep.trials):
        return None
    for trial in sweep.ranking():
        if trial.state == "paused":
            return Slice(trial.number, next(goal for goal in goals if goal > trial.step))
    return None
