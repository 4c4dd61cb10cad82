"""Population based training: at each interval the worst trials go on as copies of the best, with other settings.

Jaderberg et al., "Population Based Training of Neural Networks", 2017, section 3. https://arxiv.org/abs/1711.09846
"""

import random
from typing import ClassVar

from pydantic import Field

from sisr.sweep.schedulers import AtIntervals, Slice
from sisr.sweep.state import ENDED, LOST, Sweep, Trial


class Scheduler(AtIntervals):
    """A population that all goes to the end, and learns its settings on the way."""

    quantile: float = Field(0.25, gt=0, le=0.5, description="part of the trials that copies, and that is copied")

    copies: ClassVar[bool] = True
    parts: ClassVar[int] = 10
    otherwise: ClassVar[str] = "nobody would copy anybody"

    def next_slice(self, sweep: Sweep) -> Slice | None:
        """Continue the trial that is furthest behind; where it is among the worst, as a copy of one of the best."""
        steps = sweep.plan.steps
        if sweep.may_begin:
            return Slice(None, self.goals(steps, 0)[0])
        waiting = [t for t in sweep.trials if t.state == "paused"]
        if not waiting:
            return None
        trial = min(waiting, key=lambda t: (t.step, t.number))
        behind = [t for t in sweep.trials if t.state == "running" and t.step < trial.step]
        if behind and len(_peers(sweep, trial)) < 2:
            return None  # nobody to compare with yet
        donor = self._donor(sweep, trial)
        start = trial.step if donor is None else donor.step  # a donor may stand where an interruption has left it
        until = next(goal for goal in self.goals(steps, 0) if goal > start)
        return Slice(trial.number, until, None if donor is None else donor.number)

    def _donor(self, sweep: Sweep, trial: Trial) -> Trial | None:
        """Return whom a trial should copy: at random one of the best at its step, if it is itself among the worst."""
        peers = _peers(sweep, trial)
        part = max(1, int(self.quantile * len(peers)))
        if len(peers) < 2 or trial not in peers[:part]:
            return None
        score = sweep.score_at(trial, trial.step)
        better = [t for t in peers[-part:] if sweep.score_at(t, trial.step) > score]
        donors = [t for t in better if t.saved and t.state not in ENDED and t.step < sweep.plan.steps]
        if not donors:
            return None
        return random.Random(f"{sweep.plan.seed}/{trial.number}/{trial.step}/{len(trial.exploits)}").choice(donors)


def _peers(sweep: Sweep, trial: Trial) -> list[Trial]:
    """Return the trials that were measured at this one's step, itself included, worst first."""
    peers = [t for t in sweep.trials if t.state not in LOST and t.values_at(trial.step)]
    return sorted(peers, key=lambda t: (sweep.score_at(t, trial.step), t.number))
