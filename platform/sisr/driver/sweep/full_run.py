"""The run that follows a sweep: its best settings, at the recipe's full size, on the sweep's images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sisr import recipes
from sisr.config.settings import build, read_yaml
from sisr.disk.run_folder import RunFolder
from sisr.driver import next_steps
from sisr.driver.run.first_weights import FirstWeights
from sisr.driver.run.order import Order
from sisr.driver.run.order import prepare as prepare_run
from sisr.driver.run.workers import exactly
from sisr.driver.sweep.files import BEST, full_options, train_command
from sisr.errors import ConfigError, DataError
from sisr.metrics.catalogue import find, value_of
from sisr.sweep.plan import Plan
from sisr.sweep.space.space import SearchSpace
from sisr.sweep.state import Sweep
from sisr.training.run import Options


def full_size(plan: Plan, steps: int | None = None) -> str:
    """Return in words how a full run, of `steps` or the recipe's own, differs in size from a sweep's trials."""
    fields = recipes.load(plan.recipe, plan.recipe_source).Config.model_fields
    own = {name: fields[name].default for name in ("steps", *plan.cheap)} | plan.at_full_size
    own |= {"steps": steps} if steps else {}
    pairs = [(name, value, plan.fixed[name]) for name, value in own.items()]
    changed = [f"{name} {value} instead of {trials}" for name, value, trials in pairs if value != trials]
    return f"unlike the trials: {', '.join(changed)}" if changed else "of the trials' size"


def after_sweep(plan: Plan, folder: Path, recipe: str) -> list[next_steps.Step]:
    """Return what can be looked at and typed after a sweep; of one in object storage, once it is at home."""
    fetch = next_steps.to_bring_home(folder)
    here = Path(folder.name) if fetch else folder  # where that puts it
    page, train = str(here / "results" / "index.html"), train_command(plan, here, recipe)
    return [*fetch, ("pictures and curves", page), ("train with the best", train)]


def gained(sweep: Sweep, own: Mapping[str, Any]) -> str:
    """Return in a line what a search has gained; empty where no trial had the recipe's `own` settings.

    Both are looked at where both were evaluated last.
    """
    best, first = sweep.best(), next((trial for trial in sweep.trials if trial.first_params == own), None)
    if best is None or first is None or not first.curve:
        return ""
    if best is first:
        return "no trial is better than the one with the recipe's own settings: more or longer trials may be"
    name, step = sweep.plan.objective[0], min(best.evaluated_at, first.evaluated_at)
    measure = find(name)
    ours, theirs = (value_of(trial.values_at(step), name) for trial in (best, first))
    if measure is None or ours is None or theirs is None:
        return ""
    found = f"at step {step:,}: {measure.title} {measure.difference(ours - theirs)} against the recipe's own settings"
    if measure.gain(ours, theirs) > measure.noticeable:
        return found
    return f"{found}, no more than chance between two runs; more or longer trials tell more (--trials, --steps)"


def best_order(plan: Plan, folder: Path, recipe: str, workers: int, steps: int | None) -> Order:
    """Return the order of a full run with the settings of a sweep's best trial, on the same images.

    It has the recipe's full size; without `steps` it is as long as the recipe's own.

    Raises:
        ConfigError: The recipe's file is another one by now.
    """
    best = folder / BEST
    if recipes.find(recipe).text != plan.recipe_source:
        raise ConfigError(f"{recipe} has changed since the sweep began: train with {best}, if it still fits")
    return full_order(plan, folder, recipe, workers, read_yaml(best) | ({"steps": steps} if steps else {}))


def check_full(plan: Plan, space: SearchSpace, runs: Path, recipe: str, workers: int, steps: int | None) -> None:
    """Make sure, before a sweep, that a full run after it could use its images, and the first corner of its space.

    Raises:
        ConfigError: A setting can't be used.
        DataError: The images can't be used at the recipe's full size.
    """
    fixed = {name: value for name, value in plan.fixed.items() if name not in ("steps", *plan.cheap)}
    corner = space.settled(space.first())
    values = fixed | plan.at_full_size | corner | ({"steps": steps} if steps else {})
    unbegun = plan.model_copy(update={"init": None, "init_partly": False, "init_judge": None})
    try:
        prepare_run(full_order(unbegun, runs / "full", recipe, workers, values))
    except (ConfigError, DataError) as error:
        cheap = " ".join(f"--set {name}={plan.fixed[name]}" for name in plan.cheap)
        keep = f"; what the trials have is kept by --set, all of it by {cheap}" if cheap else ""
        raise type(error)(f"--then-train, at the recipe's full size: {error}{keep}") from error


def full_order(plan: Plan, folder: Path, recipe: str, workers: int, values: dict[str, Any]) -> Order:
    """Return the order of a run with some settings on the images of the sweep in a folder, as its trials were run."""
    sweep = RunFolder(folder)
    return Order(
        recipe=recipe,
        values=values,
        options=build(Options, full_options(plan), source="--option"),
        data=plan.data,
        validation=plan.validation,
        validation_sets=plan.validation_sets,
        runs=folder.parent,
        workers=exactly(workers),
        first=FirstWeights(
            generator=str(sweep.init) if plan.init else None,
            partly=plan.init_partly,
            judge=str(sweep.init_judge) if plan.init_judge else None,
        ),
        source=str(folder / BEST),
    )
