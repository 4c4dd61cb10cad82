"""A search space: the domains of all swept settings of one recipe."""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from sisr.config.settings import Settings
from sisr.config.wording import did_you_mean
from sisr.errors import ConfigError
from sisr.sweep.space.conditions import Condition, condition, from_when
from sisr.sweep.space.domains import Choice, Domain
from sisr.sweep.space.operators import domain_of

WHEN = "when"  # beside a domain's operator
TRIES = 10_000  # random points, among which one must meet the constraints
NEVER_SWEPT = {
    "steps": "trials are compared at equal steps; `steps` at the top of the file holds for all",
    "scale": "scores at different scales don't compare; sweep each by itself: --set scale=N",
}


@dataclass(frozen=True)
class SearchSpace:
    """Swept settings by name, in the order of the file."""

    domains: dict[str, Domain]
    defaults: dict[str, Any]  # the recipe's own values of these settings
    kept: frozenset[str] = frozenset()  # settings that `explore` does not touch
    when: Mapping[str, Condition] = field(default_factory=dict)  # settings that count only then, in order of evaluation
    constraints: tuple[Condition, ...] = ()  # what must hold in every trial
    fixed: Mapping[str, Any] = field(default_factory=dict)  # all other settings, for conditions

    @property
    def is_conditional(self) -> bool:
        """Whether some combinations of the domains' values are not points of the space."""
        return bool(self.when or self.constraints)

    def settled(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return settings in which those whose condition does not hold have the recipe's own values."""
        found = dict(params)
        for name in self.when:
            if not self.counts(name, found):
                found[name] = self.defaults[name]
        return found

    def counts(self, name: str, params: Mapping[str, Any]) -> bool:
        """Return whether a setting's condition holds, or it has none."""
        return name not in self.when or self.when[name].holds({**self.fixed, **params})

    def allows(self, params: Mapping[str, Any]) -> bool:
        """Return whether settings meet all constraints."""
        return all(one.holds({**self.fixed, **params}) for one in self.constraints)

    def sample(self, rng: Random) -> dict[str, Any]:
        """Return a random value of each setting; of one that does not count the recipe's own.

        Raises:
            ConfigError: The constraints leave nothing that could be found.
        """
        for _ in range(TRIES if self.constraints else 1):
            found = self.settled({name: domain.sample(rng) for name, domain in self.domains.items()})
            if self.allows(found):
                return found
        texts = " and ".join(one.text for one in self.constraints)
        raise ConfigError(f"none of {TRIES:,} random points of the space meets its constraints ({texts}): loosen them")

    def explore(self, params: Mapping[str, Any], rng: Random) -> dict[str, Any]:
        """Return settings near `params`: what PBT trains a copied network with; themselves where none is allowed."""
        for _ in range(TRIES if self.constraints else 1):
            found = self.settled({name: self._near(name, params, rng) for name in self.domains})
            if self.allows(found):
                return found
        return dict(params)

    def _near(self, name: str, params: Mapping[str, Any], rng: Random) -> Any:
        if name in self.kept:
            return params[name]
        domain = self.domains[name]
        return domain.explore(params[name], rng) if self.counts(name, params) else domain.sample(rng)

    def first(self) -> dict[str, Any]:
        """Return the first corner of all domains, or a random point where the constraints forbid it."""
        corner = self.settled({name: domain.corners()[0] for name, domain in self.domains.items()})
        return corner if self.allows(corner) else self.sample(Random(0))

    def contains(self, params: Mapping[str, Any]) -> bool:
        """Return whether these settings, and no other, could come out."""
        if params.keys() != self.domains.keys() or self.settled(params) != params or not self.allows(params):
            return False
        counted = (name for name in self.domains if self.counts(name, params))
        return all(self.domains[name].contains(params[name]) for name in counted)

    def baseline(self) -> dict[str, Any] | None:
        """Return the recipe's own settings, or None where the space leaves one of them out."""
        return dict(self.defaults) if self.contains(self.defaults) else None

    def grid(self) -> Iterator[dict[str, Any]]:
        """Yield every combination of lists, the last setting by name changing fastest.

        The order does not depend on how a file is ordered: two files of the same content are the same sweep.

        Raises:
            ConfigError: A setting is no list.
        """
        if ranges := [name for name, domain in self.domains.items() if not isinstance(domain, Choice)]:
            raise ConfigError(
                f"{ranges[0]} has no list of values; a grid wants choice or grid_search for every setting"
            )
        names = sorted(self.domains)
        lists = (self.domains[name].corners() for name in names)
        found = (dict(zip(names, values, strict=True)) for values in itertools.product(*lists))
        ordered = ({name: values[name] for name in self.domains} for values in found)
        return self._points(ordered) if self.is_conditional else ordered

    def _points(self, combinations: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield those that are allowed, once each: some differ only in settings that don't count."""
        seen = set[str]()
        for combination in map(self.settled, combinations):
            if self.allows(combination) and repr(combination) not in seen:
                seen.add(repr(combination))
                yield combination

    def grid_size(self) -> int:
        """Return how many combinations of lists a grid tries."""
        return sum(1 for _ in self.grid()) if self.is_conditional else self.corner_count()

    def corner_count(self) -> int:
        """Return how many combinations of corners there are."""
        return math.prod(len(domain.corners()) for domain in self.domains.values())


def build(
    written: Mapping[str, Any],
    config: type[Settings],
    *,
    source: str,
    constraints: Iterable[str] = (),
    fixed: Mapping[str, Any] | None = None,
) -> SearchSpace:
    """Return the search space that a file describes.

    Args:
        written: {operator: arguments} by setting, perhaps with a `when`.
        config: Of the recipe.
        source: What is named where a setting's place is not known.
        constraints: Conditions that hold in every trial.
        fixed: Settings that no trial varies and that differ from the recipe's own, for conditions.

    Raises:
        ConfigError: Settings or operators are unknown, or arguments don't fit; one line for each mistake.
    """
    domains, when, problems = dict[str, Domain](), dict[str, Condition](), list[str]()
    for name, value in written.items():
        try:
            check_name(name, config)
            operator, counts_when = _parted(value, config)
            domains[name] = domain_of(operator, config.model_fields[name])
            if counts_when:
                when[name] = counts_when
        except ValueError as error:
            problems.append(f"{place(written, name, source)}: space.{name}: {error}")
    if problems:
        raise ConfigError("\n".join(problems))
    try:
        ordered = _ordered(when)
        known = {text: condition(text, config.model_fields) for text in constraints}
    except ValueError as error:
        raise ConfigError(f"{source}: {error}") from None
    own = config().model_dump(mode="json")
    return SearchSpace(
        domains,
        {name: own[name] for name in domains},
        when=ordered,
        constraints=tuple(known.values()),
        fixed={name: value for name, value in {**own, **(fixed or {})}.items() if name not in domains},
    )


def _parted(written: Any, config: type[Settings]) -> tuple[Any, Condition | None]:
    """Return what describes a domain without its `when`, and that as a condition."""
    if not isinstance(written, dict) or WHEN not in written:
        return written, None
    rest = {key: value for key, value in written.items() if key != WHEN}
    return rest, condition(from_when(written[WHEN]), config.model_fields)


def _ordered(when: Mapping[str, Condition]) -> dict[str, Condition]:
    """Return conditions so that each stands behind those of the settings that it names.

    Raises:
        ValueError: Settings depend on each other in a circle.
    """
    left, found = dict(when), dict[str, Condition]()
    while left:
        free = [name for name, one in left.items() if not set(one.names) & left.keys()]
        if not free:
            raise ValueError(f"space: the conditions of {' and '.join(left)} depend on each other: drop one `when`")
        found |= {name: left.pop(name) for name in free}
    return found


def check_name(name: str, config: type[Settings]) -> None:
    """Raise ValueError for a setting that the recipe does not have, or that no sweep can vary."""
    if name not in config.model_fields:
        hint = did_you_mean(name, config.model_fields)
        raise ValueError(f"the recipe has no such setting; {hint or 'it has ' + ', '.join(config.model_fields)}")
    if name in NEVER_SWEPT:
        raise ValueError(f"can't be swept: {NEVER_SWEPT[name]}")


def defaults(config: type[Settings], names: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's own values of some settings, as JSON has them."""
    values = config().model_dump(mode="json")
    return {name: values[name] for name in names}


def place(written: Mapping[str, Any], name: str, source: str) -> str:
    """Return "file:line" of a setting, or `source` where that is not known."""
    return str(getattr(written, "where", {}).get(name, source))
