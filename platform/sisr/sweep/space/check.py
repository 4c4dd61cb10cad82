"""Checks of a search space against its recipe, before anything starts: what the tenth trial would meet fails here."""

import itertools
from collections.abc import Iterator, Mapping
from random import Random
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from sisr.config.settings import Settings, build
from sisr.config.wording import expected
from sisr.errors import ConfigError
from sisr.sweep import schedulers
from sisr.sweep.space import space as spaces
from sisr.sweep.space.domains import Choice, Domain, Number
from sisr.sweep.space.objectives import Logged, direction_problems
from sisr.sweep.space.space import SearchSpace, place

if TYPE_CHECKING:
    from sisr.sweep.space.file import SpaceFile

COMBINATIONS = 1024  # of corners that are tried one by one
DRAWS = 200  # of the space that are tried, and of corners where these are too many


def check(
    file: "SpaceFile", written: Mapping[str, Any], config: type[Settings], *, source: str, logged: Logged
) -> SearchSpace:
    """Return the search space of a file if all that it allows is right for the recipe.

    `written` is the file as read, with the place of each setting.

    Raises:
        ConfigError: Something is wrong; one line for each mistake.
    """
    swept, fixed = (written.get(block) or {} for block in ("space", "fixed"))
    places = place(written, "objective", source), place(written, "mode", source)
    problems = [*_objective_problems(file, *places, logged)]
    problems += _fixed_problems(fixed, swept, config, source)
    problems += _scheduler_problems(file, written, source)
    try:
        space = spaces.build(swept, config, source=source, constraints=file.constraints, fixed=_known(fixed, file))
    except ConfigError as error:
        raise ConfigError("\n".join([*problems, str(error)])) from None
    for name, domain in space.domains.items():
        where = f"{place(swept, name, source)}: space.{name}"
        problems += [f"{where}: {problem}" for problem in _domain_problems(name, domain, file, swept[name], config)]
    if not problems and space.constraints:
        problems += _unmet(space, place(written, "constraints", source))
    if not problems:
        problems += _conflicts(file, space, config, written, source)
    if problems:
        raise ConfigError("\n".join(problems))
    return space


def _known(fixed: Mapping[str, Any], file: "SpaceFile") -> dict[str, Any]:
    return {**fixed, "steps": file.steps}


def _unmet(space: SearchSpace, at: str) -> Iterator[str]:
    """Yield that nothing meets the constraints, where that is so."""
    try:
        space.sample(Random(0))
    except ConfigError as error:
        yield f"{at}: constraints: {error}"


def _objective_problems(file: "SpaceFile", at: str, mode_at: str, logged: Logged) -> Iterator[str]:
    known = logged.objectives
    for name in file.objective:
        if name not in known:
            yield f"{at}: objective: {logged.problem(name)}"
    if len(set(file.objective)) < len(file.objective):
        yield f"{at}: objective: {file.objective[0]} is given twice; name two metrics, or one"
    if len(file.mode) != len(file.objective):
        yield f"{mode_at}: mode: wants max or min for each of {', '.join(file.objective)}, or no line at all"
        return
    for problem in direction_problems(file.objective, file.mode, known):
        yield f"{mode_at}: mode: {problem}"


def _scheduler_problems(file: "SpaceFile", written: Mapping[str, Any], source: str) -> Iterator[str]:
    if file.scheduler not in schedulers.names():
        yield f"{place(written, 'scheduler', source)}: scheduler: {schedulers.unknown(file.scheduler)}"
        return
    try:
        schedulers.build_scheduler(file.scheduler, written.get("scheduler_options") or {})
    except ConfigError as error:
        yield from str(error).splitlines()


def _fixed_problems(
    fixed: Mapping[str, Any], swept: Mapping[str, Any], config: type[Settings], source: str
) -> Iterator[str]:
    if "steps" in fixed:
        yield f"{place(fixed, 'steps', source)}: fixed.steps: stands at the top of the file; option: --steps"
    for name in fixed:
        if name in swept:
            at = place(fixed, name, source)
            yield f"{at}: fixed.{name}: is swept, too ({place(swept, name, source)}); leave out one of them"
    if _field_error(config, fixed):
        try:
            build(config, fixed, source=source)
        except ConfigError as error:
            yield from str(error).splitlines()


def _domain_problems(
    name: str, domain: Domain, file: "SpaceFile", written: Mapping[str, Any], config: type[Settings]
) -> Iterator[str]:
    """Yield why a domain fits neither the setting nor the search."""
    operator = next(word for word in written if word != spaces.WHEN)
    if file.search == "grid" and not isinstance(domain, Choice):
        yield f"{operator} has no end of values, and search is grid; use grid_search: [VALUE, ...], or search: random"
    if file.search != "grid" and operator == "grid_search":
        yield f"grid_search tries every value, but search is {file.search}; use choice, or search: grid"
    if file.search not in ("random", "grid") and isinstance(domain, Number) and domain.normal:
        yield f"{file.search} knows no {operator}; use uniform or loguniform with bounds, or search: random"
    rng = Random(0)
    for value in [*domain.corners(), *(domain.sample(rng) for _ in range(20))]:
        if _field_error(config, {name: value}):
            yield f"{operator} gives {value!r}, but the setting wants {expected(config.model_fields[name])}"
            return


def _conflicts(
    file: "SpaceFile", space: SearchSpace, config: type[Settings], written: Mapping[str, Any], source: str
) -> Iterator[str]:
    """Yield the first combination that a rule between settings forbids."""
    base = {**file.fixed, "steps": file.steps}
    for combination in _combinations(space):
        error = _rule_error(config, base | combination)
        if not error:
            continue
        if guilty := _guilty(space, config, base, combination):
            given = ", ".join(f"{name}={combination[name]}" for name in guilty)
            at = place(written["space"], guilty[0], source)
            yield f"{at}: space.{guilty[0]}: allows {given}, but {error}; change its values, or what is fixed"
        else:
            at = place(written, "steps", source)
            yield f"{at}: steps: every trial has steps {file.steps}, but {error}; put what fits under fixed"
        return


def _combinations(space: SearchSpace) -> Iterator[dict[str, Any]]:
    """Yield the combinations to try, of those that trials may have."""
    for combination in _raw_combinations(space):
        settled = space.settled(combination)
        if space.allows(settled):
            yield settled


def _raw_combinations(space: SearchSpace) -> Iterator[dict[str, Any]]:
    """Yield corners, all if they are few, and draws, the same ones each time."""
    rng, corners = Random(0), {name: domain.corners() for name, domain in space.domains.items()}
    if baseline := space.baseline():
        yield baseline
    if space.corner_count() <= COMBINATIONS:
        yield from (dict(zip(corners, values, strict=True)) for values in itertools.product(*corners.values()))
    else:
        yield from ({name: rng.choice(values) for name, values in corners.items()} for _ in range(DRAWS))
    yield from (space.sample(rng) for _ in range(DRAWS))


def _guilty(space: SearchSpace, config: type[Settings], base: dict[str, Any], combination: dict[str, Any]) -> list[str]:
    """Return the settings of a forbidden combination that would make it right by another value of theirs."""

    whole = base | combination
    return [
        name
        for name in combination
        if any(not _rule_error(config, whole | {name: other}) for other in space.domains[name].corners())
    ]


def _errors(config: type[Settings], values: Mapping[str, Any]) -> list[Any]:
    """Return what pydantic finds wrong with some settings."""
    try:
        config.model_validate(dict(values))
    except ValidationError as error:
        return error.errors()
    return []


def _field_error(config: type[Settings], values: Mapping[str, Any]) -> bool:
    """Return whether a value by itself is wrong; rules between settings don't count."""
    return any(error["loc"] for error in _errors(config, values))


def _rule_error(config: type[Settings], values: Mapping[str, Any]) -> str:
    """Return what is wrong with all settings together, or an empty text."""
    return next((str(error.get("ctx", {}).get("error") or error["msg"]) for error in _errors(config, values)), "")
