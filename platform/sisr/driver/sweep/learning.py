"""What a new sweep can learn from the ledgers of earlier ones."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sisr.config.settings import Settings, build
from sisr.errors import ConfigError
from sisr.metrics.catalogue import value_of
from sisr.sweep import schedulers, state
from sisr.sweep.earlier import Curve, Earlier
from sisr.sweep.plan import Plan
from sisr.sweep.space.space import SearchSpace
from sisr.sweep.state import LOST, Sweep, Trial
from sisr.training.run import Options


def learned(
    plan: Plan, space: SearchSpace, config: type[Settings], folders: Sequence[Path], free: Iterable[str]
) -> tuple[Earlier, ...]:
    """Return the trials of earlier sweeps that are points of a new one's space, each sweep's best first.

    Settings that the recipe has no more are forgotten; one that an earlier sweep did not vary has the value that all
    its trials had. `free` names the options that change no result.

    Raises:
        ConfigError: A sweep is of another recipe, or none of its trials lies in the space.
    """
    if folders and plan.search == "grid":
        raise ConfigError("--learn-from has no effect on a grid, which tries everything: use --search tpe")
    return tuple(one for folder in folders for one in _of(state.read(folder), plan, space, config, frozenset(free)))


def _of(sweep: Sweep, plan: Plan, space: SearchSpace, config: type[Settings], free: frozenset[str]) -> list[Earlier]:
    old = sweep.plan
    if old.recipe != plan.recipe:
        raise ConfigError(f"sweep {old.name} searched {old.recipe}, from which {plan.recipe} can't learn")
    defaults = config().model_dump(mode="json")
    unlike, found = _unlike(old, plan, free), list[Earlier]()
    ranked = sweep.ranking()
    for trial in [*ranked, *(t for t in sweep.trials if t.state in LOST)]:
        settings = {n: v for n, v in {**defaults, **old.fixed, **trial.params}.items() if n in defaults}
        params = space.settled({name: settings[name] for name in space.domains})
        if not space.contains(params):
            continue
        lost = trial.state in LOST
        if lost and not found:
            break  # none that could be evaluated lies in the space
        others = unlike or _other_settings(settings, {**defaults, **plan.fixed, **params})
        found.append(
            Earlier(
                sweep=old.name,
                trial=trial.number,
                fingerprint=old.fingerprint,
                params=params,
                curve=() if others or lost else _curve(trial, plan),
                unlike=others,
                lost=lost,
                best=not found,
            )
        )
    if not found:
        raise ConfigError(
            f"sweep {old.name} has no trial to learn from: none that was evaluated lies in the space of "
            f"{', '.join(space.domains)}; leave it out of --learn-from, or widen the space"
        )
    return found


def _unlike(old: Plan, new: Plan, free: frozenset[str]) -> str:
    """Return why values of an earlier sweep don't compare with those of a new one; empty: they may."""
    if old.measures != new.measures:
        return f"it searched for {', '.join(old.objective)}"
    if old.recipe_source != new.recipe_source:
        return "the recipe's file was another"
    if old.init_sha256 != new.init_sha256:
        return "its trials began with other weights"
    if schedulers.build_scheduler(old.scheduler, old.scheduler_options).copies:
        return "its trials copied each other"
    return _other_settings(_measuring(old.options, free), _measuring(new.options, free), kind="option")


def _measuring(options: Mapping[str, Any], free: frozenset[str]) -> dict[str, Any]:
    """Return the options that decide what is measured; how often is not one of them."""
    return build(Options, options, source="options").model_dump(mode="json", exclude={*free, "evaluate_every", "seed"})


def _other_settings(old: Mapping[str, Any], new: Mapping[str, Any], kind: str = "setting") -> str:
    """Return in words the first setting that differs, the length of trials apart."""
    names = (name for name in new if name != "steps" and old.get(name) != new[name])
    return next((f"{kind} {name} was {old.get(name)} and is {new[name]}" for name in names), "")


def _curve(trial: Trial, plan: Plan) -> Curve:
    """Return the objectives of a trial's evaluations, as far as the new trials go."""
    found = []
    for step, values in trial.curve:
        objectives = {metric: value_of(values, metric) for metric in plan.objective}
        if step <= plan.steps and None not in objectives.values():
            found.append((step, {metric: float(value or 0.0) for metric, value in objectives.items()}))
    return tuple(found)
