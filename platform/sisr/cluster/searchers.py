"""Ray Tune's searchers by Ray's own names, for sweeps whose memory is their ledger.

Ray saves a searcher's memory in files of its own. Here each is built anew for each question, and lives through the
trials that the ledger has recorded: they are its `points_to_evaluate`, which `suggest` hands back one after the other,
and `on_trial_result` and `on_trial_complete` tell what became of each. So a sweep goes on after any interruption, and a
trial that went further since counts with what it has now. Nobody needs `add_evaluated_point`, which one searcher has.
"""

import importlib.util
import inspect
import logging
import math
import random
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from sisr.cluster.connection import prepare_environment
from sisr.config.wording import did_you_mean
from sisr.errors import ConfigError
from sisr.sweep.searchers import OURS, Places, Point, Question

# By Ray's name: the module that must be there, and what pip calls the package.
PACKAGES = {
    "ax": ("ax", "ax-platform"),
    "bayesopt": ("bayes_opt", "bayesian-optimization==1.4.3"),
    "bohb": ("hpbandster", "hpbandster ConfigSpace"),
    "hebo": ("hebo", "HEBO"),
    "hyperopt": ("hyperopt", "hyperopt"),
    "nevergrad": ("nevergrad", "nevergrad"),
    "optuna": ("optuna", "optuna"),
    "zoopt": ("zoopt", "zoopt"),
}
SEEDS = ("random_state_seed", "random_state", "seed")  # what the argument is called where there is one
GIVEN = {"self", "space", "dim_dict", "metric", "mode", "points_to_evaluate", "evaluated_rewards", "budget", *SEEDS}
METRIC = "objective"
NEVERGRAD = "OnePlusOne"  # needs no memory beside the trials, and learns most from few: NGOpt hardly beats chance at 24
NEAR = 1e-6  # how exactly a point comes back that a searcher was given


class RaySearchers:
    """The `Searchers` of Ray Tune."""

    def check(self, question: Question) -> None:
        _check_options(question, _searcher_class(question.name))
        try:
            _asked(question)
        except ConfigError as error:
            guilty = [name for name in question.axes if not _searches(replace(question, told=()), name)]
            if 0 < len(guilty) < len(question.axes):
                raise ConfigError(f"{error}; it can't search {', '.join(guilty)}: use search tpe") from error
            raise

    def suggest(self, question: Question) -> Point | None:
        return _asked(question)


def _searcher_class(name: str) -> Any:
    """Return Ray's class of a name.

    Raises:
        ConfigError: There is none, or its package is missing.
    """
    if name not in PACKAGES:
        every = [*OURS, *PACKAGES]
        raise ConfigError(f"no search '{name}'; {did_you_mean(name, every) or 'all searches: ' + ', '.join(every)}")
    module, package = PACKAGES[name]
    if importlib.util.find_spec(module) is None:
        raise ConfigError(f"search {name} is Ray Tune's and needs a package that is not here: pip install {package}")
    prepare_environment()
    from ray.tune.search import SEARCH_ALG_IMPORT

    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    try:
        return SEARCH_ALG_IMPORT[name]()
    except Exception as error:
        raise _unusable(name, error) from error


def _unusable(name: str, error: Exception) -> ConfigError:
    """Return what to answer where a searcher fails, in its own words."""
    words = " ".join(str(error).split()) or type(error).__name__
    return ConfigError(f"search {name}: {words.rstrip('.')}")


def _check_options(question: Question, searcher_class: Any) -> None:
    """Raise ConfigError where an option is unknown: Ray would forget it."""
    parameters = inspect.signature(searcher_class.__init__).parameters
    known = [name for name, one in parameters.items() if name not in GIVEN and one.kind is not one.VAR_KEYWORD]
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return
    for name in question.options:
        if name not in known:
            hint = did_you_mean(name, known) or f"its options: {', '.join(known)}"
            raise ConfigError(f"--search-option: {question.name} has no '{name}'; {hint}")


def _searches(question: Question, name: str) -> bool:
    """Return whether a searcher can search one axis alone."""
    try:
        return _asked(replace(question, axes={name: question.axes[name]})) is not None
    except ConfigError:
        return False


def _asked(question: Question) -> Point | None:
    """Return a searcher's answer.

    Raises:
        ConfigError: It fails, or is none that can be told of trials.
    """
    searcher_class = _searcher_class(question.name)
    try:
        with _seeded(question.seed):
            searcher = _built(question, searcher_class)
            _tell(searcher, question)
            found = searcher.suggest("next")
    except ConfigError:
        raise
    except Exception as error:  # of a package that we don't know
        raise _unusable(question.name, error) from error
    if not isinstance(found, dict):
        return None
    return {name: float(found[name]) for name in question.axes}


def _built(question: Question, searcher_class: Any) -> Any:
    """Return a searcher of a question's space, which will first suggest the trials that it is told of."""
    from ray import tune

    parameters = inspect.signature(searcher_class.__init__).parameters
    given: dict[str, Any] = {"metric": METRIC, "mode": question.mode}
    given |= {name: question.seed for name in SEEDS if name in parameters}
    given |= {"random_seed": question.seed} if question.name == "ax" else {}
    if question.told:
        given["points_to_evaluate"] = [dict(one.point) for one in question.told]
    if "max_concurrent" in parameters:  # else some wait for trials that run
        given["max_concurrent"] = 1 + sum(not one.curve for one in question.told)
    if "budget" in parameters:
        given["budget"] = question.trials
    given |= question.options
    if question.name == "nevergrad":
        given |= _nevergrad(question)
    searcher = searcher_class(**given)
    space = {
        name: tune.choice(list(range(axis.count))) if isinstance(axis, Places) else tune.uniform(axis.low, axis.high)
        for name, axis in question.axes.items()
    }
    searcher.set_search_properties(METRIC, question.mode, space)
    if question.name == "nevergrad":
        import numpy

        searcher._nevergrad_opt.parametrization.random_state = numpy.random.RandomState(question.seed)
    return searcher


def _nevergrad(question: Question) -> dict[str, Any]:
    """Return the optimizer that Ray's NevergradSearch wants as a class, by its name."""
    import nevergrad

    name = question.options.get("optimizer", NEVERGRAD)
    if name not in nevergrad.optimizers.registry:
        hint = did_you_mean(str(name), nevergrad.optimizers.registry) or f"such as {NEVERGRAD}, NGOpt or CMA"
        raise ConfigError(f"--search-option: nevergrad has no optimizer '{name}'; {hint}")
    arguments = {"budget": question.trials, **(question.options.get("optimizer_kwargs") or {})}
    return {"optimizer": nevergrad.optimizers.registry[name], "optimizer_kwargs": arguments}


def _tell(searcher: Any, question: Question) -> None:
    """Let a searcher live through all trials that it is told of.

    Raises:
        ConfigError: It does not take the first of them: it could never go on from a ledger.
    """
    for number, one in enumerate(question.told):
        trial = str(number)
        found = searcher.suggest(trial)
        if not isinstance(found, dict):  # it would wait, or has seen the point before
            continue
        if not _same(one.point, found):
            raise ConfigError(
                f"search {question.name} can't be told of trials that it has not suggested itself, so that a sweep "
                "could not go on after an interruption: use another one"
            )
        for step, value in one.curve:
            searcher.on_trial_result(trial, _result(step, value))
        if one.lost:
            searcher.on_trial_complete(trial, None, error=True)
        elif one.curve:
            searcher.on_trial_complete(trial, _result(*one.curve[-1]))


def _result(step: int, value: float) -> dict[str, Any]:
    """Return one of Tune's results; `hyperband_info` is what BOHB reads."""
    return {METRIC: value, "training_iteration": step, "hyperband_info": {"budget": step}}


def _same(point: Mapping[str, float], found: Mapping[str, Any]) -> bool:
    return all(math.isclose(float(found[name]), place, rel_tol=NEAR, abs_tol=NEAR) for name, place in point.items())


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed what packages draw from that take no seed, and leave it as it was."""
    import numpy
    import torch

    states = random.getstate(), numpy.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of packages about each other
            yield
    finally:
        random.setstate(states[0])
        numpy.random.set_state(states[1])
        torch.set_rng_state(states[2])
