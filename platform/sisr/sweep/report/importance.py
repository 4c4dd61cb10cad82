"""Which swept settings decided the outcome: functional analysis of variance (fANOVA) over a sweep's trials.

Hutter et al., "An Efficient Approach for Assessing Hyperparameter Importance", 2014, as Optuna has it. PED-ANOVA, the
other choice, was compared on synthetic sweeps of five settings: with 24 trials it found the one that mattered in half
of the cases, fANOVA in all. Outcomes are ranked first, so that one trial that went badly wrong does not decide alone;
logarithmic settings are given as logarithms, since Optuna's fANOVA averages uniformly over what it is given.
"""

import math
from dataclasses import dataclass
from typing import Any

from sisr.sweep.report.numbers import title
from sisr.sweep.space.axes import Axis, axes
from sisr.sweep.state import Sweep

FEWEST = 8  # trials; fewer say nothing
ROUGH = 30  # trials; with fewer, shares are rough
TREES = 64


@dataclass(frozen=True)
class Importance:
    """How much each setting explains of the differences between trials."""

    shares: dict[str, float]  # by setting, largest first, they sum to 1; empty: too few trials
    step: int | None  # at which the trials are compared
    trials: int  # compared
    caption: str


@dataclass(frozen=True)
class _Outcome:
    params: dict[str, Any]
    score: float  # larger is better; minus infinity: diverged


def importance(sweep: Sweep) -> Importance:
    """Return the importance of each setting that varies, for the metric that trials are ranked by.

    Trials are compared at the furthest step that at least half of those evaluated reached, and at least FEWEST: the
    survivors of early stopping alone would say little about what the others lacked. Trials that diverged before it
    count as the worst. Nothing is compared at step 0, before any training. Where PBT copies, only steps before the
    first copy are compared: later values belong to several settings.
    """
    step, outcomes = compared(sweep)
    varying = [axis for axis in axes(sweep) if len({axis.number(o.params.get(axis.name)) for o in outcomes}) > 1]
    if len(outcomes) < FEWEST:
        return Importance({}, step, len(outcomes), f"too few trials: {len(outcomes)} of at least {FEWEST}")
    if not varying or len({outcome.score for outcome in outcomes}) == 1:
        return Importance(
            {}, step, len(outcomes), f"no differences between the {len(outcomes)} trials at step {step:,}"
        )
    diverged = sum(outcome.score == -math.inf for outcome in outcomes)
    caption = f"share of the variance in the rank by {title(sweep.plan.rank_metric[0])}, at step {step:,}, "
    caption += f"{len(outcomes)} trials (fANOVA)"
    caption += f"; {diverged} diverged count as the worst" if diverged else ""
    caption += "; few trials, so rough" if len(outcomes) < ROUGH else ""
    return Importance(_fanova(varying, outcomes), step, len(outcomes), caption)


def compared(sweep: Sweep) -> tuple[int | None, list[_Outcome]]:
    """Return the step at which trials are compared, None without any, and each trial's outcome there."""
    copied = min((e.step for trial in sweep.trials for e in trial.exploits), default=math.inf)
    reached: dict[int, list[_Outcome]] = {}
    for trial in sweep.trials:
        for step, values in dict(trial.curve).items():
            score = sweep.rank_score(values)
            if trial.state != "failed" and 0 < step <= copied and score > -math.inf:
                reached.setdefault(step, []).append(_Outcome(trial.first_params, score))
    if not reached:
        return None, []
    enough = max(FEWEST, max(map(len, reached.values())) / 2)
    well_reached = [step for step, found in reached.items() if len(found) >= enough]
    step = max(well_reached) if well_reached else max(reached, key=lambda s: (len(reached[s]), s))  # too few anyway
    diverged = [trial for trial in sweep.trials if trial.state == "diverged" and not trial.exploits]
    lost = [_Outcome(t.first_params, -math.inf) for t in diverged if sweep.score_at(t, step) == -math.inf]
    return step, reached[step] + lost


def _fanova(varying: list[Axis], outcomes: list[_Outcome]) -> dict[str, float]:
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
    from optuna.importance import FanovaImportanceEvaluator

    complete = [o for o in outcomes if all(axis.number(o.params.get(axis.name)) is not None for axis in varying)]
    points = [{axis.name: axis.number(o.params[axis.name]) or 0.0 for axis in varying} for o in complete]
    space: dict[str, BaseDistribution] = {}
    for axis in varying:
        numbers = [point[axis.name] for point in points]
        space[axis.name] = (
            CategoricalDistribution(sorted(set(numbers)))
            if axis.labels
            else FloatDistribution(min(numbers), max(numbers))
        )
    order = sorted({outcome.score for outcome in complete})
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it announces each study
    study = optuna.create_study(storage=optuna.storages.InMemoryStorage(), direction="maximize")
    for point, outcome in zip(points, complete, strict=True):
        rank = float(order.index(outcome.score))
        study.add_trial(optuna.trial.create_trial(params=point, distributions=space, value=rank))
    shares = FanovaImportanceEvaluator(n_trees=TREES, seed=0).evaluate(study)
    total = sum(shares.values())
    return {name: float(share / total) for name, share in shares.items()} if total > 0 else {}
