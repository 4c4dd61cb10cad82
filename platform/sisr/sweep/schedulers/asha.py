"""Asynchronous successive halving: the best part of each rung is promoted, as soon as that is known.

Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020, algorithm 2. https://arxiv.org/abs/1810.05934
A trial that diverged counts as one that was worse than all others, at the rungs that it was sent to.
"""

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import ClassVar, Self

from pydantic import Field

from sisr.config.settings import Settings
from sisr.errors import ConfigError
from sisr.sweep.schedulers import Slice
from sisr.sweep.state import LOST, Sweep, Trial

SPARSELY = 10  # steps between evaluations at least, where a trial has so many: more often, it would be all validation


class Scheduler(Settings):
    """Successive halving without waiting for a rung to be full."""

    rungs: tuple[int, ...] = Field((), description="steps at which trials are compared, below those of a whole trial")
    eta: int = Field(3, ge=2, description="one of this many trials goes on from each rung; eta in the paper")
    brackets: int = Field(1, ge=1, description="groups of trials, each of which skips one rung more than the last")

    copies: ClassVar[bool] = False

    def planned(self, steps: int, evaluate_every: int | None) -> tuple[Self, int]:
        """Return the rungs, by default after a ninth and a third of the steps, and how often to evaluate."""
        fitted, every = self._with_rungs(steps, evaluate_every)
        if fitted.brackets > len(fitted.rungs) + 1:
            raise ConfigError(
                f"brackets {fitted.brackets} is more than the rungs allow: with {len(fitted.rungs)} rungs there are "
                f"at most {len(fitted.rungs) + 1}; give fewer brackets, or more rungs"
            )
        return fitted, every

    def _with_rungs(self, steps: int, evaluate_every: int | None) -> tuple[Self, int]:
        if self.rungs:
            rises = list(self.rungs) == sorted(set(self.rungs))
            if not rises or not 0 < self.rungs[0] <= self.rungs[-1] < steps:
                given = ",".join(map(str, self.rungs))
                raise ConfigError(f"rungs must rise and lie between 0 and steps {steps}, got {given}")
            return self, evaluate_every or self.rungs[0]
        if evaluate_every is not None and evaluate_every >= steps:
            raise ConfigError(
                f"halving compares trials before their end, but evaluate_every {evaluate_every} is no less than their "
                f"steps {steps}: give a smaller one"
            )
        every = evaluate_every or max(1, steps // (2 * self.eta**2), SPARSELY if steps >= SPARSELY * self.eta else 0)
        marks = {max(1, round(steps / part / every)) * every for part in (self.eta**2, self.eta)}
        return self.model_copy(update={"rungs": tuple(sorted(mark for mark in marks if mark < steps))}), every

    def turn(self) -> list[int]:
        """Return the brackets of one turn's trials, each as the number of rungs that it skips.

        The bracket that is halved s times has ceil(brackets / (s + 1) * eta^s) trials, so that all take about as many
        steps (Li et al., "Hyperband", 2018, algorithm 1); turns follow one another. https://arxiv.org/abs/1603.06560
        """
        halvings = range(self.brackets - 1, -1, -1)
        sizes = [math.ceil(self.brackets / (s + 1) * self.eta**s) for s in halvings]
        return [skipped for skipped, size in enumerate(sizes) for _ in range(size)]

    def bracket_of(self, trial: int) -> int:
        """Return how many rungs a trial, by number, skips."""
        turn = self.turn()
        return turn[trial % len(turn)]

    def goals(self, steps: int, trial: int) -> tuple[int, ...]:
        return (*self.rungs[self.bracket_of(trial) :], steps)

    def expected(self, trials: int, level: int) -> int:
        shares = (self.eta ** -max(0, level - self.bracket_of(trial)) for trial in range(trials))
        return max(1, int(sum(shares) + 1e-9))

    def next_slice(self, sweep: Sweep) -> Slice | None:
        """Promote the best of a rung as soon as they are known to be among its best part, the highest rung first."""
        steps = sweep.plan.steps
        for rung, goal in reversed(list(pairwise((*self.rungs, steps)))):
            for skipped in range(self.brackets):
                members = [t for t in sweep.trials if self.bracket_of(t.number) == skipped]
                ranked = best_first(sweep, members, rung)
                for trial in ranked[: len(ranked) // self.eta]:
                    if may_rise(sweep, trial, rung):
                        return Slice(trial.number, goal)
        if sweep.may_begin:
            return Slice(None, self.goals(steps, len(sweep.trials))[0])
        if any(t.state == "running" for t in sweep.trials):
            return None
        return self._finalist(sweep)

    def _finalist(self, sweep: Sweep) -> Slice | None:
        """Send the best trial on where there were too few for any to be promoted all the way."""
        if any(t.state == "finished" for t in sweep.trials):
            return None
        for trial in sweep.ranking():
            if trial.state == "paused":
                goals = self.goals(sweep.plan.steps, trial.number)
                return Slice(trial.number, next(goal for goal in goals if goal > trial.step))
        return None


def best_first(sweep: Sweep, trials: Iterable[Trial], rung: int) -> list[Trial]:
    """Return those of the trials that came to a rung, or got lost on the way to it, in the order of their scores."""
    reached = [t for t in trials if t.values_at(rung) or (t.state in LOST and t.until >= rung)]
    return sorted(reached, key=lambda t: (-sweep.score_at(t, rung), t.number))


def may_rise(sweep: Sweep, trial: Trial, rung: int) -> bool:
    """Return whether a trial waits at a rung with a score that can be compared."""
    return trial.state == "paused" and trial.step == rung and math.isfinite(sweep.score_at(trial, rung))
