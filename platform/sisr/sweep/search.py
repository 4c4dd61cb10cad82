"""The next point to try: a pure function of what is known about a sweep, so that no interruption makes it forget.

`tpe` is Optuna's tree-structured Parzen estimator. Its study is rebuilt from the sweep's trials each time: nothing of
Optuna's outlives the call, so that nothing can be lost with the process. A study divides the trials into few good and
many others, and draws from where the good are denser.

Bergstra et al., "Algorithms for Hyper-Parameter Optimization", 2011; Ozaki et al., "Multiobjective Tree-Structured
Parzen Estimator", 2022, for two objectives.
"""

import hashlib
import itertools
import math
import warnings
from collections import Counter
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from sisr.metrics.catalogue import value_of
from sisr.sweep import searchers
from sisr.sweep.earlier import Earlier, compared, first_points
from sisr.sweep.searchers import OURS, Searchers
from sisr.sweep.space.domains import Choice, Domain
from sisr.sweep.space.space import SearchSpace
from sisr.sweep.state import LOST, Sweep, Trial

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial
    from optuna.trial import Trial as OptunaTrial

STARTUP = 10  # trials that must have been measured before TPE learns from them
ASKED = 20  # times that TPE is asked for what meets all constraints, before chance is
COMPARED = 5  # trials that make a step worth comparing at; Optuna calls at most 4 of 256 trials good


def suggest(sweep: Sweep, space: SearchSpace, others: Searchers | None = None) -> dict[str, Any]:
    """Return the swept settings of the next trial; there must be one: fewer are begun than planned.

    The first trial of all but `grid` has the recipe's own settings, where the space holds them: what every other
    one must beat. Then come the best ones of earlier sweeps, where the plan names any. `others` are asked where the
    plan's search is none of ours.
    """
    plan, number = sweep.plan, len(sweep.trials)
    if plan.search == "grid":
        return next(itertools.islice(space.grid(), number, None))
    first = first_points(plan.earlier, space.baseline())
    if number < len(first):
        return first[number]
    earlier = [_as_trial(one, plan.steps) for one in compared(plan.earlier, plan.fingerprint)]
    known = replace(sweep, trials=[*earlier, *sweep.trials])
    if plan.search not in OURS:
        return searchers.suggest(known, space, seed(plan.seed, number), others)
    if plan.search == "random" or sum(bool(trial.curve) for trial in known.trials) < STARTUP:
        return space.sample(Random(seed(plan.seed, number)))
    return _tpe(known, space, seed(plan.seed, number))


def seed(sweep_seed: int, number: int) -> int:
    """Return the 32-bit seed of one trial's draws."""
    return int.from_bytes(hashlib.blake2b(f"{sweep_seed}/{number}".encode(), digest_size=4).digest())


def _as_trial(one: Earlier, steps: int) -> Trial:
    """Return an earlier sweep's trial as one of this sweep, whose trials have so many steps."""
    trial = Trial(-1, one.params, one.params, curve=list(one.curve))
    trial.step = trial.until = trial.evaluated_at
    trial.state = "diverged" if one.lost else "finished" if trial.step == steps else "paused"
    return trial


def _tpe(sweep: Sweep, space: SearchSpace, seed: int) -> dict[str, Any]:
    """Return the settings that promise most, where some trials have been measured, and that meet all constraints."""
    for number in range(ASKED if space.constraints else 1):
        found = _promising(sweep, space, seed + number)
        if space.allows(found):
            return found
    return space.sample(Random(seed))


def _promising(sweep: Sweep, space: SearchSpace, seed: int) -> dict[str, Any]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {name: _distribution(domain) for name, domain in space.domains.items()}
    # In groups, settings that don't count in every trial are learnt from those in which they did.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=bool(space.when), constant_liar=True)
    directions = ["maximize" if mode == "max" else "minimize" for mode in sweep.plan.mode]
    study = optuna.create_study(sampler=sampler, directions=directions)
    common = None if len(directions) == 1 else _common_step(sweep)
    for trial in sweep.trials:
        if space.contains(trial.params):
            counted = {name: domain for name, domain in space.domains.items() if space.counts(name, trial.params)}
            params = {name: _encoded(domain, trial.params[name]) for name, domain in counted.items()}
            study.add_trial(_frozen(trial, params, {n: distributions[n] for n in params}, _known(sweep, trial, common)))
    if not space.when:
        asked = study.ask(distributions).params
        return {name: _decoded(domain, asked[name]) for name, domain in space.domains.items()}
    return _asked(study.ask(), space, distributions)


def _asked(trial: "OptunaTrial", space: SearchSpace, distributions: "dict[str, BaseDistribution]") -> dict[str, Any]:
    """Return what Optuna suggests for each setting that counts, one after the other; others have the recipe's value."""
    found: dict[str, Any] = {}
    for name in [*(name for name in space.domains if name not in space.when), *space.when]:
        if space.counts(name, {**space.defaults, **found}):
            found[name] = _decoded(space.domains[name], _suggested(trial, name, distributions[name]))
        else:
            found[name] = space.defaults[name]
    return {name: found[name] for name in space.domains}


def _suggested(trial: "OptunaTrial", name: str, distribution: "BaseDistribution") -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        low, high, step = distribution.low, distribution.high, distribution.step
        return trial.suggest_int(name, low, high, step=step, log=distribution.log)
    assert isinstance(distribution, FloatDistribution)
    low, high = distribution.low, distribution.high
    return trial.suggest_float(name, low, high, step=distribution.step, log=distribution.log)


# What is known of a trial: its objectives where they compare with all others', or its one objective by step.
Known = tuple[float, ...] | dict[int, float]


def _known(sweep: Sweep, trial: Trial, common: int | None) -> Known:
    """Return what is known of a trial at the step that is common to all, or of one objective; empty: nothing.

    Of a trial that stopped early on the way to one objective, Optuna looks at its last step first: who went further
    was better.
    """
    if trial.state in LOST:
        return {}
    if common is not None:
        return _objectives(sweep, trial.values_at(common))
    values = _objectives(sweep, trial.values)
    return values if trial.state == "finished" or not values else {trial.evaluated_at: values[0]}


def _common_step(sweep: Sweep) -> int:
    """Return the furthest step at which enough trials were measured to compare two objectives there.

    Optuna has no order among trials that stopped early on the way to two objectives, and their last values don't
    compare: PSNR often falls while a judge improves the picture, so that a trial looks unbeaten because it is short.
    Trials that went past the common step count with what they had there; those that never came so far did worse.
    """
    measured = Counter(step for trial in sweep.trials for step, values in trial.curve if _objectives(sweep, values))
    return max((s for s, times in measured.items() if times >= min(COMPARED, max(measured.values()))), default=0)


def _objectives(sweep: Sweep, values: dict[str, float]) -> tuple[float, ...]:
    """Return the objectives in a validation's values; empty where one is missing or not finite."""
    found = [value_of(values, metric) for metric in sweep.plan.objective]
    numbers = tuple(value for value in found if value is not None and math.isfinite(value))
    return numbers if len(numbers) == len(found) else ()


def _frozen(
    trial: Trial, params: dict[str, Any], distributions: dict[str, "BaseDistribution"], known: Known
) -> "FrozenTrial":
    """Return a trial as Optuna sees it.

    Trials of which nothing is known yet are running: their surroundings are avoided for the moment. Those that ended
    with nothing to show are pruned without a value, which Optuna places after all others. One that goes on after a
    pause keeps what it has shown: it was among the best.
    """
    from optuna.trial import TrialState, create_trial

    if known and isinstance(known, tuple):
        return create_trial(params=params, distributions=distributions, values=known)
    if not trial.curve and trial.state in ("waiting", "running", "paused"):
        return create_trial(state=TrialState.RUNNING, params=params, distributions=distributions)
    steps = known if isinstance(known, dict) else {}
    return create_trial(state=TrialState.PRUNED, params=params, distributions=distributions, intermediate_values=steps)


def _distribution(domain: Domain) -> "BaseDistribution":
    """Return Optuna's name for a domain; logarithmic multiples are found among all numbers and rounded afterwards."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(domain, Choice):  # by position: Optuna takes no lists
        return CategoricalDistribution(range(len(domain.values)))
    if domain.whole:
        step = 1 if domain.log else int(domain.q or 1)
        return IntDistribution(int(domain.low), int(domain.high), log=domain.log, step=step)
    return FloatDistribution(domain.low, domain.high, log=domain.log, step=None if domain.log else domain.q)


def _encoded(domain: Domain, value: Any) -> Any:
    return domain.index(value) if isinstance(domain, Choice) else value


def _decoded(domain: Domain, value: Any) -> Any:
    return domain.values[value] if isinstance(domain, Choice) else domain.fit(value)
