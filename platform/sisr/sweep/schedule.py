"""Which trial runs next, and how far: pure functions of what the ledger tells, so that any crash leaves no gap.

A trial runs in slices, each from its last checkpoint to a step at which trials are compared. A trial that is not worth
more is simply not continued: nothing is killed, and no worker, reservation or half-written file is left behind.
"""

import math
import random
from dataclasses import dataclass
from itertools import pairwise

from sisr.sweep.state import ENDED, Sweep, Trial

REDUCTION_FACTOR = 3  # asha: one of this many trials goes on from each rung; eta in the paper
QUANTILE = 0.25  # pbt: share of trials that copy, and that are copied


@dataclass(frozen=True)
class Slice:
    """One stretch of one trial."""

    trial: int | None  # None: a new trial
    until: int  # step
    donor: int | None = None  # the trial whose networks are copied first


def next_slice(sweep: Sweep) -> Slice | None:
    """Return what to run now, or None: wait for what is running, or, where nothing is, the sweep is finished."""
    for trial in sweep.trials:  # what an interruption left
        if trial.state == "waiting" or (trial.state == "paused" and trial.until > trial.step):
            return Slice(trial.number, max(trial.until, _first_goal(sweep)))
    may_begin = len(sweep.trials) < sweep.plan.trials
    match sweep.plan.scheduler:
        case "asha":
            return _halving(sweep, may_begin)
        case "pbt":
            return _population(sweep, may_begin)
        case _:
            return Slice(None, sweep.plan.steps) if may_begin else None


def _first_goal(sweep: Sweep) -> int:
    plan = sweep.plan
    if plan.scheduler == "asha":
        return (*plan.rungs, plan.steps)[0]
    return min(plan.interval or plan.steps, plan.steps) if plan.scheduler == "pbt" else plan.steps


def _halving(sweep: Sweep, may_begin: bool) -> Slice | None:
    """Promote the best of a rung as soon as they are known to be among its best share, the highest rung first.

    Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020, algorithm 2 (ASHA).
    https://arxiv.org/abs/1810.05934
    A trial that diverged counts as one that was worse than all others, at the rungs that it was sent to.
    """
    goals = (*sweep.plan.rungs, sweep.plan.steps)
    for rung, goal in reversed(list(pairwise(goals))):
        reached = [t for t in sweep.trials if t.values_at(rung) or _was_lost_before(t, rung)]
        reached.sort(key=lambda t: (-_score_at(sweep, t, rung), t.number))
        for trial in reached[: len(reached) // REDUCTION_FACTOR]:
            if _stands_at(sweep, trial, rung):
                return Slice(trial.number, goal)
    if may_begin:
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


def _was_lost_before(trial: Trial, rung: int) -> bool:
    return trial.state in ("diverged", "failed") and trial.until >= rung


def _stands_at(sweep: Sweep, trial: Trial, rung: int) -> bool:
    return trial.state == "paused" and trial.step == rung and math.isfinite(_score_at(sweep, trial, rung))


def _score_at(sweep: Sweep, trial: Trial, step: int) -> float:
    return sweep.rank_score(trial.values_at(step))


def _population(sweep: Sweep, may_begin: bool) -> Slice | None:
    """Continue the trial that is furthest behind; where it is among the worst, as a copy of one of the best.

    Jaderberg et al., "Population Based Training of Neural Networks", 2017, section 3. https://arxiv.org/abs/1711.09846
    """
    plan = sweep.plan
    assert plan.interval is not None
    if may_begin:
        return Slice(None, min(plan.interval, plan.steps))
    open_ = [t for t in sweep.trials if t.state == "paused"]
    if not open_:
        return None
    trial = min(open_, key=lambda t: (t.step, t.number))
    behind = [t for t in sweep.trials if t.state == "running" and t.step < trial.step]
    if behind and len(_peers(sweep, trial)) < 2:
        return None  # nobody to compare with yet
    donor = _donor(sweep, trial)
    start = trial.step if donor is None else donor.step
    until = (start // plan.interval + 1) * plan.interval  # a donor may stand where an interruption has left it
    return Slice(trial.number, min(until, plan.steps), None if donor is None else donor.number)


def _peers(sweep: Sweep, trial: Trial) -> list[Trial]:
    """Return the trials that were measured at this one's step, itself included, worst first."""
    peers = [t for t in sweep.trials if t.state not in ("diverged", "failed") and t.values_at(trial.step)]
    return sorted(peers, key=lambda t: (_score_at(sweep, t, trial.step), t.number))


def _donor(sweep: Sweep, trial: Trial) -> Trial | None:
    """Return whom a trial should copy: at random one of the best at its step, if it is itself among the worst."""
    peers = _peers(sweep, trial)
    share = max(1, int(QUANTILE * len(peers)))
    if len(peers) < 2 or trial not in peers[:share]:
        return None
    score = _score_at(sweep, trial, trial.step)
    better = [t for t in peers[-share:] if _score_at(sweep, t, trial.step) > score]
    donors = [t for t in better if t.saved and t.state not in ENDED and t.step < sweep.plan.steps and t is not trial]
    if not donors:
        return None
    return random.Random(f"{sweep.plan.seed}/{trial.number}/{trial.step}/{len(trial.exploits)}").choice(donors)
