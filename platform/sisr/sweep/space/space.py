"""A search space: the domains of all swept settings of one recipe."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from sisr.config.settings import Settings
from sisr.config.wording import did_you_mean
from sisr.errors import ConfigError
from sisr.sweep.space.domains import Choice, Domain
from sisr.sweep.space.operators import domain_of

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

    def sample(self, rng: Random) -> dict[str, Any]:
        """Return a random value of each setting."""
        return {name: domain.sample(rng) for name, domain in self.domains.items()}

    def explore(self, params: Mapping[str, Any], rng: Random) -> dict[str, Any]:
        """Return settings near `params`: what PBT trains a copied network with."""
        return {
            name: params[name] if name in self.kept else domain.explore(params[name], rng)
            for name, domain in self.domains.items()
        }

    def contains(self, params: Mapping[str, Any]) -> bool:
        """Return whether these settings, and no other, could come out."""
        same = params.keys() == self.domains.keys()
        return same and all(domain.contains(params[name]) for name, domain in self.domains.items())

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
        return ({name: values[name] for name in self.domains} for values in found)

    def grid_size(self) -> int:
        """Return how many combinations of corners there are; where all settings are lists, the size of the grid."""
        return math.prod(len(domain.corners()) for domain in self.domains.values())


def build(written: Mapping[str, Any], config: type[Settings], *, source: str) -> SearchSpace:
    """Return the search space that a file's `space` describes; `source` is named where a setting's place is not known.

    Raises:
        ConfigError: Settings or operators are unknown, or arguments don't fit; one line for each mistake.
    """
    domains, problems = {}, []
    for name, value in written.items():
        try:
            check_name(name, config)
            domains[name] = domain_of(value, config.model_fields[name])
        except ValueError as error:
            problems.append(f"{place(written, name, source)}: space.{name}: {error}")
    if problems:
        raise ConfigError("\n".join(problems))
    return SearchSpace(domains, defaults(config, domains))


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
