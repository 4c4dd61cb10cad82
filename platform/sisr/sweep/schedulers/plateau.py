"""Every trial for as long as it gets better: one that has stood still for some comparisons is not continued."""

import math
from typing import ClassVar

from pydantic import Field

from sisr.sweep.schedulers import AtIntervals, Slice
from sisr.sweep.state import Sweep, Trial


class Scheduler(AtIntervals):
    """No trial is compared with another: each has only itself to beat."""

    patience: int = Field(4, ge=1, description="comparisons without a better value after which a trial ends")
    least: float = Field(0.0, ge=0, description="by how much a value must be better to count, in the objective's units")

    copies: ClassVar[bool] = False
    parts: ClassVar[int] = 20
    otherwise: ClassVar[str] = "none would end"

    def next_slice(self, sweep: Sweep) -> Slice | None:
        """Continue the trial that is furthest, where it still gets better; then begin another."""
        steps = sweep.plan.steps
        going = [t for t in sweep.trials if t.state == "paused" and not self._stands_still(sweep, t)]
        if going:
            trial = max(going, key=lambda t: (t.step, -t.number))
            return Slice(trial.number, next(goal for goal in self.goals(steps, trial.number) if goal > trial.step))
        return Slice(None, self.goals(steps, 0)[0]) if sweep.may_begin else None

    def _stands_still(self, sweep: Sweep, trial: Trial) -> bool:
        """Return whether the best score of a trial is too many comparisons old."""
        best, waited = -math.inf, 0
        for goal in self.goals(sweep.plan.steps, trial.number):
            if goal > trial.step:
                break
            score = sweep.score_at(trial, goal)
            better = score > best + self.least if math.isfinite(best) else math.isfinite(score)
            best, waited = (score, 0) if better else (best, waited + 1)
        return waited >= self.patience
