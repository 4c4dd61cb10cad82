"""From what somebody asked to search to a plan that is checked against the recipe, the images and earlier plans."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sisr import recipes
from sisr.config.settings import build, read_yaml
from sisr.data.sources.catalogue import absolute, check_source
from sisr.disk.run_folder import RunFolder
from sisr.disk.sweep_folder import is_sweep
from sisr.driver.run.order import Order
from sisr.driver.run.workers import exactly
from sisr.driver.sweep import check
from sisr.driver.sweep.files import BEST
from sisr.errors import ConfigError
from sisr.models import trust
from sisr.sweep import schedulers
from sisr.sweep.plan import Plan
from sisr.sweep.space import file as space_file
from sisr.sweep.space.space import SearchSpace
from sisr.training.dataset import TrainingData
from sisr.training.run import FREE_OPTIONS, Options, check_name

# What may change between two executions of one sweep: as of one run, but for the distance that trials are compared by.
FREE = FREE_OPTIONS - {"perceptual"}


def plan_of(
    recipe: str,
    *,
    data: str = "demo",
    validation: str | None = None,
    name: str = "",
    search_space: Path | None = None,
    changes: Mapping[str, Any] | None = None,
    space: Sequence[str] = (),
    settings: Sequence[str] = (),
    scheduler_options: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> tuple[Plan, SearchSpace]:
    """Return the plan of a sweep, and its space, both checked against the recipe.

    Args:
        recipe: A name of ours, or a recipe file's path.
        data: Where images come from, as `data.sources` understands it.
        validation: Another folder of held-out images; None: split from `data`.
        name: The sweep's; empty: `prepare` makes it from the recipe and a hash of the plan.
        search_space: A YAML file; None: the recipe's own.
        changes: What replaces the file's `trials`, `steps`, `search`, `scheduler` and `objective`; None leaves it.
        space: Texts of --space.
        settings: Texts of --set.
        scheduler_options: Of the scheduler; they replace those of the file.
        options: How trials run: of `training.run.Options`.
        seed: Of the search, and of every trial.

    Raises:
        ConfigError: The recipe, its space, or a setting can't be used.
    """
    changes, options = changes or {}, options or {}
    source = recipes.find(recipe)
    module = recipes.load(source.name, source.text, source.where)
    if source.text:
        trust.remember(source.name, source.text, source.where)
    path = space_file.find(recipe, search_space)
    file, found = space_file.load(path, module.Config, options=changes, space=space, settings=settings)
    build(Options, options, source="--option")
    asked = {**file.scheduler_options, **(scheduler_options or {})}
    scheduler, every = _scheduled(file.scheduler, asked, file.steps, options.get("evaluate_every"))
    fields = {
        **file.plan_fields(),
        "name": name,
        "recipe": source.name,
        "recipe_source": source.text,
        "scheduler_options": scheduler,
        "options": {"evaluate_every": every, "seed": seed, **options},
        "seed": seed,
        "data": data,
        "validation": validation,
    }
    if file.search == "grid":
        fields["trials"] = _grid_trials(found.grid_size(), file.trials, changes.get("trials"))
    plan = build(Plan, fields, source="the sweep")
    if schedulers.build_scheduler(plan.scheduler, scheduler).copies:
        found = replace(found, kept=check.deciding_shapes(plan, found))
    return plan, found


def _grid_trials(combinations: int, trials: int, asked: int | None) -> int:
    """Return how many points of a grid are tried.

    Raises:
        ConfigError: It is larger than the file's `trials`, and nobody has said on the command line where to end.
    """
    if combinations > trials and asked is None:
        raise ConfigError(
            f"the grid has {combinations} combinations, but the search space's file says trials: {trials}; "
            f"--trials {combinations} tries all, --trials {trials} the first of them"
        )
    return min(combinations, trials)


def _scheduled(name: str, asked: Mapping[str, Any], steps: int, every: int | None) -> tuple[dict[str, Any], int]:
    """Return the options of a scheduler that are not its defaults, and how often trials are evaluated.

    Raises:
        ConfigError: An option can't be used, or trials are not evaluated where they are compared.
    """
    scheduler, every = schedulers.build_scheduler(name, asked).planned(steps, every)
    compared = scheduler.goals(steps, 0)[:-1]
    if wrong := [step for step in compared if step % every]:
        raise ConfigError(
            f"trials are compared at step {wrong[0]:,} but evaluated every {every:,}: give an --option evaluate_every "
            f"that divides {', '.join(map(str, compared[:3]))}"
        )
    return scheduler.model_dump(mode="json", exclude_defaults=True), every


def prepare(plan: Plan, space: SearchSpace, runs: Path, workers: int) -> tuple[Plan, RunFolder, TrainingData]:
    """Check a plan, pack its images, and return it completed, with the sweep's folder and the data.

    Raises:
        ConfigError: A setting or the name can't be used.
        DataError: The images can't be used.
    """
    if plan.name:
        check_name(plan.name)
    check_source(plan.data, plan.validation)  # an error names the source as it was written
    places = {"data": absolute(plan.data), "validation": plan.validation and absolute(plan.validation)}
    plan = plan.model_copy(update=places)
    check.check_batches(plan, space, workers)
    if "perceptual" in plan.options:  # perhaps a file, as every process finds it
        options = build(Options, plan.options, source="--option")
        plan = plan.model_copy(update={"options": {**plan.options, "perceptual": options.perceptual}})
    data = check.opened_data(plan, space)
    plan = plan.model_copy(update={"fingerprint": data.fingerprint})
    if not plan.name:  # that of the same sweep, where it has begun
        before = f"{plan.recipe}-sweep-{plan.hash_1}"  # made by an earlier version
        name = before if is_sweep(runs / before) else f"{plan.recipe}-sweep-{plan.hash(FREE)}"
        plan = plan.model_copy(update={"name": name})
    return plan, RunFolder(runs / plan.name), data


def changes(old: Plan, new: Plan) -> list[str]:
    """Return in words what makes a plan another sweep.

    More trials don't, nor another place of the same images; whether the images are the same is another question.
    """
    found = [f"trials {old.trials} -> {new.trials}"] if new.trials < old.trials else []
    if old.recipe_source != new.recipe_source:
        found.append("recipe file changed")
    before, now = _comparable(old), _comparable(new)
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            found.append(f"{name} {before.get(name)} -> {now.get(name)}")
    return found


def _comparable(plan: Plan) -> dict[str, Any]:
    """Return what decides a plan's results, flat: {"steps": 900, "fixed.hr_crop": 32, ...}."""
    left_out = {"format", "name", "trials", "recipe_source", "fingerprint", "data", "validation"}
    fields = plan.model_dump(exclude=left_out)
    fields["options"] = build(Options, plan.options, source="options").model_dump(exclude=FREE)
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        flat |= {f"{name}.{key}": part for key, part in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def best_order(plan: Plan, folder: Path, recipe: str, workers: int, steps: int | None) -> Order:
    """Return the order of a full run with the settings of a sweep's best trial, on the same images.

    Without `steps` it is as long as the recipe's own.

    Raises:
        ConfigError: The recipe's file is another one by now.
    """
    best = folder / BEST
    if recipes.find(recipe).text != plan.recipe_source:
        raise ConfigError(f"{recipe} has changed since the sweep began: train with {best}, if it still fits")
    kept = {name: value for name, value in plan.options.items() if name != "evaluate_every"}
    return Order(
        recipe=recipe,
        values=read_yaml(best) | ({"steps": steps} if steps else {}),
        options=build(Options, kept, source="--option"),
        data=plan.data,
        validation=plan.validation,
        runs=folder.parent,
        workers=exactly(workers),
        source=str(best),
    )
