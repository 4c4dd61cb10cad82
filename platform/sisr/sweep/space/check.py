"""Checks of a search space against its recipe, before anything starts: what the tenth trial would meet fails here."""

import itertools
from collections.abc import Iterator, Mapping
from random import Random
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from sisr.config.settings import Settings, build
from sisr.config.wording import did_you_mean, expected
from sisr.errors import ConfigError
from sisr.metrics.catalogue import AT_VALIDATION, DISTANCES, Mode
from sisr.sweep import schedulers
from sisr.sweep.space import space as spaces
from sisr.sweep.space.domains import Choice, Domain, Number
from sisr.sweep.space.space import SearchSpace, place

if TYPE_CHECKING:
    from sisr.sweep.space.file import SpaceFile

# What a validation logs, and where better lies.
OBJECTIVES: dict[str, Mode] = {f"val/{metric.name}": metric.mode for metric in (*AT_VALIDATION, *DISTANCES)}
COMBINATIONS = 1024  # of corners that are tried one by one
DRAWS = 200  # of the space that are tried, and of corners where these are too many


def check(file: "SpaceFile", written: Mapping[str, Any], config: type[Settings], *, source: str) -> SearchSpace:
    """Return the search space of a file if all that it allows is right for the recipe.

    `written` is the file as read, with the place of each setting.

    Raises:
        ConfigError: Something is wrong; one line for each mistake.
    """
    swept, fixed = (written.get(block) or {} for block in ("space", "fixed"))
    problems = [*_objective_problems(file, place(written, "objective", source), place(written, "mode", source))]
    problems += _fixed_problems(fixed, swept, config, source)
    problems += _scheduler_problems(file, written, source)
    try:
        space = spaces.build(swept, config, source=source)
    except ConfigError as error:
        raise ConfigError("\n".join([*problems, str(error)])) from None
    for name, domain in space.domains.items():
        where = f"{place(swept, name, source)}: space.{name}"
        problems += [f"{where}: {problem}" for problem in _domain_problems(name, domain, file, swept[name], config)]
    if not problems:
        problems += _conflicts(file, space, config, written, source)
    if problems:
        raise ConfigError("\n".join(problems))
    return space


def _objective_problems(file: "SpaceFile", at: str, mode_at: str) -> Iterator[str]:
    for name in file.objective:
        if name not in OBJECTIVES:
            hint = did_you_mean(name, OBJECTIVES) or "all are " + ", ".join(OBJECTIVES)
            yield f"{at}: objective: no validation logs '{name}'; {hint}"
    if len(set(file.objective)) < len(file.objective):
        yield f"{at}: objective: {file.objective[0]} is given twice; name two metrics, or one"
    if len(file.mode) != len(file.objective):
        yield f"{mode_at}: mode: wants max or min for each of {', '.join(file.objective)}, or no line at all"
        return
    for name, mode in zip(file.objective, file.mode, strict=True):
        right = OBJECTIVES.get(name, mode)
        if mode != right:
            better = "larger" if right == "max" else "smaller"
            yield f"{mode_at}: mode: {better} is better for {name}; write {right}, or leave mode out"


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
    operator = next(iter(written))
    if file.search == "grid" and not isinstance(domain, Choice):
        yield f"{operator} has no end of values, and search is grid; use grid_search: [VALUE, ...], or search: random"
    if file.search != "grid" and operator == "grid_search":
        yield f"grid_search tries every value, but search is {file.search}; use choice, or search: grid"
    if file.search == "tpe" and isinstance(domain, Number) and domain.normal:
        yield f"tpe knows no {operator}; use uniform or loguniform with bounds, or search: random"
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
    """Yield the combinations to try: corners, all if they are few, and draws, the same ones each time."""
    rng, corners = Random(0), {name: domain.corners() for name, domain in space.domains.items()}
    if baseline := space.baseline():
        yield baseline
    if space.grid_size() <= COMBINATIONS:
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
