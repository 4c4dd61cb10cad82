"""Searchers that are not ours: what they are asked, and what a sweep makes of their answers.

They are called by `Searchers`, which a sweep is given: this room knows neither Ray nor the packages behind it. A
searcher sees each setting as a number on an even scale, or as one of so many places, so that all of them search
logarithms and multiples, whatever they know of these themselves. Its memory is the sweep's ledger: each time it is
built anew and told all that has been tried.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Protocol

from sisr.errors import ConfigError
from sisr.metrics.catalogue import Mode, value_of
from sisr.sweep.space.domains import Choice, Domain
from sisr.sweep.space.space import SearchSpace
from sisr.sweep.state import LOST, Sweep, Trial

OURS = ("random", "grid", "tpe")
ASKED = 5  # times that a searcher is asked for what meets all constraints, before chance is

Point = dict[str, float]  # a place on each axis


@dataclass(frozen=True)
class Scale:
    """An axis of numbers from `low` to `high`, all equally likely."""

    low: float
    high: float


@dataclass(frozen=True)
class Places:
    """An axis of places from 0 to `count` - 1, none nearer to another than a third."""

    count: int


@dataclass(frozen=True)
class Told:
    """A trial, as a searcher is told of it."""

    point: Point
    curve: tuple[tuple[int, float], ...]  # (step, objective), as far as it is measured; empty: it has only begun
    lost: bool = False  # it diverged or failed


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a searcher is asked: the next point."""

    name: str  # of the searcher
    options: Mapping[str, Any]  # of the searcher
    axes: Mapping[str, Scale | Places]
    mode: Mode
    trials: int  # that there will be, and that it is told of
    seed: int = 0
    told: Sequence[Told] = ()  # those that were measured or lost before those that have only begun


class Searchers(Protocol):
    """Who knows searchers by name."""

    def check(self, question: Question) -> None:
        """Make sure that questions like this one can be answered.

        Raises:
            ConfigError: There is no such searcher here, an option is wrong, or it can't search this space.
        """

    def suggest(self, question: Question) -> Point | None:
        """Return the next point, the same for the same question; None: the searcher would wait, or is at its end.

        Raises:
            ConfigError: The searcher fails.
        """


def check(sweep: Sweep, space: SearchSpace, searchers: Searchers | None, where: str = "") -> None:
    """Make sure that a sweep's searcher can search its space; errors begin with `where` it is named.

    Raises:
        ConfigError: It can't, or there is no such searcher.
    """
    try:
        _check(sweep, space, searchers)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}" if where else str(error)) from error


def _check(sweep: Sweep, space: SearchSpace, searchers: Searchers | None) -> None:
    plan = sweep.plan
    if plan.search in OURS:
        if plan.search_options:
            raise ConfigError(f"search {plan.search} has no options, got {', '.join(plan.search_options)}")
        return
    if searchers is None:
        raise ConfigError(f"no search '{plan.search}'; all searches: {', '.join(OURS)}")
    searchers.check(replace(_question(sweep, space, 0), told=_samples(space)))
    if len(plan.objective) > 1:
        raise ConfigError(f"search {plan.search} has one objective, not {' and '.join(plan.objective)}: use search tpe")
    if space.when:
        raise ConfigError(
            f"search {plan.search} knows no conditions, but {next(iter(space.when))} has a `when`: use search tpe"
        )


def suggest(sweep: Sweep, space: SearchSpace, seed: int, searchers: Searchers | None) -> dict[str, Any]:
    """Return the settings that a sweep's searcher wants to try, or, where it has none that are allowed, random ones.

    The sweep's trials are all that the searcher is told of, those of earlier sweeps among them.
    """
    assert searchers is not None, f"planning has checked search {sweep.plan.search}"
    for number in range(ASKED if space.constraints else 1):
        point = searchers.suggest(_question(sweep, space, seed + number))
        if point is None:
            break
        found = {name: _decoded(domain, point[name]) for name, domain in space.domains.items()}
        if space.allows(found):
            return found
    return space.sample(Random(seed))


def _question(sweep: Sweep, space: SearchSpace, seed: int) -> Question:
    plan = sweep.plan
    told = [_told(sweep, space, trial) for trial in sweep.trials if space.contains(trial.params)]
    return Question(
        name=plan.search,
        options=plan.search_options,
        axes={name: _axis(domain) for name, domain in space.domains.items()},
        mode=plan.mode[0],
        trials=max(plan.trials, 1 + len(told)),
        seed=seed,
        told=[*(one for one in told if one.curve or one.lost), *(one for one in told if not (one.curve or one.lost))],
    )


def _samples(space: SearchSpace) -> list[Told]:
    """Return a few trials that might have been, to see that a searcher takes them."""
    points = (_encoded(space, space.sample(Random(number))) for number in range(4))
    return [Told(point, ((1, float(number)),)) for number, point in enumerate(points)]


def _told(sweep: Sweep, space: SearchSpace, trial: Trial) -> Told:
    lost = trial.state in LOST
    values = ((step, value_of(found, sweep.plan.objective[0])) for step, found in trial.curve)
    curve = tuple((step, value) for step, value in values if value is not None and math.isfinite(value))
    return Told(_encoded(space, trial.params), () if lost else curve, lost)


def _axis(domain: Domain) -> Scale | Places:
    if isinstance(domain, Choice):
        return Places(len(domain.values))
    half = (domain.q or (1 if domain.whole else 0)) / 2  # so that the outermost values are as likely as the others
    low, high = domain.low - half, domain.high + half
    return Scale(math.log10(low), math.log10(high)) if domain.log else Scale(low, high)


def _encoded(space: SearchSpace, params: Mapping[str, Any]) -> Point:
    return {name: _place(domain, params[name]) for name, domain in space.domains.items()}


def _place(domain: Domain, value: Any) -> float:
    if isinstance(domain, Choice):
        index = domain.index(value)
        assert index is not None, f"{value} is in the space"
        return index
    return math.log10(value) if domain.log else float(value)


def _decoded(domain: Domain, place: float) -> Any:
    if isinstance(domain, Choice):
        return domain.values[int(place)]
    return domain.fit(10**place if domain.log else place)
