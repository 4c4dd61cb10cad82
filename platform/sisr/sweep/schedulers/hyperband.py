"""Hyperband: successive halvings from many short to few long trials, each rung filled before it is halved.

Li et al., "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization", 2018, algorithm 1.
https://arxiv.org/abs/1603.06560. `asha` with as many brackets decides without waiting.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Self

from pydantic import Field

from sisr.sweep.schedulers import Slice, asha
from sisr.sweep.state import Sweep, Trial


class Scheduler(asha.Scheduler):
    """Successive halving in brackets; a trial goes on when all of its bracket have come to its rung."""

    brackets: int = Field(0, ge=0, description="groups of trials, each skipping one rung more; 0: one more than rungs")

    def planned(self, steps: int, evaluate_every: int | None) -> tuple[Self, int]:
        """Return the scheduler with its rungs and its brackets."""
        fitted, every = super().planned(steps, evaluate_every)
        return fitted.model_copy(update={"brackets": fitted.brackets or len(fitted.rungs) + 1}), every

    def next_slice(self, sweep: Sweep) -> Slice | None:
        """Send on the best of a full rung, the first trials' bracket first; else begin a trial."""
        for members in self._groups(sweep):
            if found := self._promoted(sweep, members):
                return found
        if sweep.may_begin:
            return Slice(None, self.goals(sweep.plan.steps, len(sweep.trials))[0])
        return None

    def _groups(self, sweep: Sweep) -> Iterator[list[Trial]]:
        """Yield the trials of each bracket of each turn that has all its trials; the last one may have fewer."""
        turn, planned = self.turn(), sweep.plan.trials
        for first in range(0, len(sweep.trials), len(turn)):
            for skipped in range(self.brackets):
                numbers = [n for n in range(first, min(first + len(turn), planned)) if turn[n - first] == skipped]
                if numbers and numbers[-1] < len(sweep.trials):
                    yield [sweep.trials[number] for number in numbers]

    def _promoted(self, sweep: Sweep, members: list[Trial]) -> Slice | None:
        for rung, goal in pairwise(self.goals(sweep.plan.steps, members[0].number)):
            ranked = asha.best_first(sweep, members, rung)
            if len(ranked) < len(members):
                return None  # some are on their way
            members = ranked[: max(1, len(ranked) // self.eta)]
            for trial in members:
                if asha.may_rise(sweep, trial, rung):
                    return Slice(trial.number, goal)
        return None
