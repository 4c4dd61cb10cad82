"""From what somebody asked to search to a plan that is checked against the recipe, the images and earlier plans."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sisr import recipes
from sisr.config.settings import build
from sisr.data.sources.catalogue import absolute, check_source
from sisr.data.sources.judging import check_sets
from sisr.disk.run_folder import RunFolder, check_name
from sisr.disk.sweep_folder import is_sweep
from sisr.driver.run.first_weights import RANDOM, FirstWeights, adopted, first_of
from sisr.driver.sweep import check, learning
from sisr.errors import ConfigError
from sisr.metrics.catalogue import further_names
from sisr.models import trust
from sisr.recipe import RecipeModule
from sisr.recipes.outside import Source
from sisr.storage import ownership
from sisr.sweep import plan as plans
from sisr.sweep import schedulers
from sisr.sweep.plan import Plan
from sisr.sweep.searchers import Searchers
from sisr.sweep.searchers import check as check_search
from sisr.sweep.space import file as space_file
from sisr.sweep.space.objectives import Logged
from sisr.sweep.space.space import SearchSpace
from sisr.sweep.state import Sweep
from sisr.training.dataset import TrainingData, refuse_mixed
from sisr.training.run import FREE_OPTIONS, Options

# What may change between two executions of one sweep: as of one run, but for the distance that trials are compared by.
FREE = FREE_OPTIONS - {"perceptual"}


def plan_of(
    recipe: str,
    *,
    data: str = "demo",
    validation: str | None = None,
    validation_sets: Mapping[str, str] | None = None,
    name: str = "",
    search_space: Path | None = None,
    changes: Mapping[str, Any] | None = None,
    space: Sequence[str] = (),
    settings: Sequence[str] = (),
    scheduler_options: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    runs: Path = Path("runs"),
    first: FirstWeights = RANDOM,
    base: Mapping[str, Any] | None = None,
    learn_from: Sequence[Path] = (),
    search_options: Mapping[str, Any] | None = None,
    searchers: Searchers | None = None,
) -> tuple[Plan, SearchSpace]:
    """Return the plan of a sweep, and its space, both checked against the recipe.

    Args:
        recipe: A name of ours, or a recipe file's path.
        data: Where images come from, as `data.sources` understands it.
        validation: Another folder of held-out images; None: split from `data`.
        validation_sets: Further ones that trials are measured on, by name.
        name: The sweep's; empty: `prepare` makes it from the recipe and a hash of the plan.
        search_space: A YAML file; None: the recipe's own.
        changes: What replaces the file's `trials`, `steps`, `search`, `scheduler` and `objective`; None leaves it.
        space: Texts of --space.
        settings: Texts of --set.
        scheduler_options: Of the scheduler; they replace those of the file.
        options: How trials run: of `training.run.Options`.
        seed: Of the search, and of every trial.
        runs: Holds all runs.
        first: What every trial's networks start with.
        base: Settings of presets or of another run, where trials neither search nor have others; a full run has them.
        learn_from: Folders of earlier sweeps.
        search_options: Of a searcher that is not ours; they replace those of the file.
        searchers: Those that are not ours.

    Raises:
        ConfigError: The recipe, its space, or a setting can't be used.
    """
    changes, options = changes or {}, options or {}
    source, module = _trusted(recipe)
    path = space_file.find(recipe, search_space)
    _check_options(checked := build(Options, options, source="--option"))
    logged = Logged(tuple(further_names(checked.metrics)), tuple(validation_sets or ()))
    base = base or {}
    file, found = space_file.load(
        path, module.Config, options=changes, space=space, settings=settings, base=base, logged=logged
    )
    found = replace(found, defaults={name: base.get(name, own) for name, own in found.defaults.items()})
    fixed, first = _begun(module, file.plan_fields()["fixed"], first, runs)
    scheduler, every = _scheduled(file, scheduler_options or {}, options.get("evaluate_every"))
    fields = {
        **file.plan_fields(),
        "name": name,
        "fixed": fixed,
        "full": {name: value for name, value in base.items() if name in ("steps", *file.cheap)},
        "init": first.generator,
        "init_partly": first.partly,
        "init_judge": first.judge,
        "recipe": source.name,
        "recipe_source": source.text,
        "scheduler_options": scheduler,
        "search_options": {**file.search_options, **(search_options or {})},
        "options": {"evaluate_every": every, "seed": seed, **options},
        "seed": seed,
        "data": data,
        "validation": validation,
        "validation_sets": dict(validation_sets or {}),
        "learn_from": tuple(folder.resolve().name for folder in learn_from),
    }
    fields["trials"] = _trials(file, found, changes.get("trials"))
    plan = build(Plan, fields, source="the sweep")
    check_search(Sweep(plan), found, searchers, where=space_file.place_of(path, "search", changes))
    earlier = learning.learned(plan, found, module.Config, learn_from, FREE)
    plan = plan.model_copy(update={"earlier": earlier})
    copies = schedulers.build_scheduler(plan.scheduler, scheduler).copies
    return plan, replace(found, kept=check.deciding_shapes(plan, found)) if copies else found


def _trusted(recipe: str) -> tuple[Source, RecipeModule]:
    """Return a recipe as found and as loaded; one of the user's own is trusted from now on."""
    source = recipes.find(recipe)
    module = recipes.load(source.name, source.text, source.where)
    if source.text:
        trust.remember(source.name, source.text, source.where)
    return source, module


def _begun(
    module: RecipeModule, fixed: dict[str, Any], first: FirstWeights, runs: Path
) -> tuple[dict[str, Any], FirstWeights]:
    """Return the fixed settings with those of a model that they name, and whose weights trials start with."""
    if model := adopted(module, fixed, runs):
        return fixed | model.settings, first_of(model, first)
    return fixed, first


def _check_options(options: Options) -> None:
    if options.patience is not None:
        raise ConfigError(
            "--option patience is a run's own; in a sweep --scheduler plateau --scheduler-option patience=4 ends trials"
        )


def _trials(file: space_file.SpaceFile, space: SearchSpace, asked: int | None) -> int:
    """Return how many points are tried: of a grid no more than it has.

    Raises:
        ConfigError: It is larger than the file's `trials`, and nobody has said on the command line where to end.
    """
    if file.search != "grid":
        return file.trials
    combinations = space.grid_size()
    if combinations > file.trials and asked is None:
        raise ConfigError(
            f"the grid has {combinations} combinations, but the search space's file says trials: {file.trials}; "
            f"--trials {combinations} tries all, --trials {file.trials} the first of them"
        )
    return min(combinations, file.trials)


def _scheduled(file: space_file.SpaceFile, asked: Mapping[str, Any], every: int | None) -> tuple[dict[str, Any], int]:
    """Return the options of the scheduler that are not its defaults, and how often trials are evaluated.

    `asked` replaces options of the file.

    Raises:
        ConfigError: An option can't be used, or trials are not evaluated where they are compared.
    """
    options = {**file.scheduler_options, **asked}
    scheduler, every = schedulers.build_scheduler(file.scheduler, options).planned(file.steps, every)
    compared = scheduler.goals(file.steps, 0)[:-1]
    if wrong := [step for step in compared if step % every]:
        raise ConfigError(
            f"trials are compared at step {wrong[0]:,} but evaluated every {every:,}: give an --option evaluate_every "
            f"that divides {', '.join(map(str, compared[:3]))}"
        )
    return scheduler.model_dump(mode="json", exclude_defaults=True), every


def prepare(
    plan: Plan, space: SearchSpace, runs: Path, workers: int, *, fetch: bool = True
) -> tuple[Plan, RunFolder, TrainingData]:
    """Check a plan, pack its images, and return it completed, with the sweep's folder and the data.

    Weights of losses are asked for after the images, and fetched where they are missing, unless `fetch` is false.

    Raises:
        ConfigError: A setting or the name can't be used.
        DataError: The images can't be used.
    """
    if plan.name:
        check_name(plan.name)
    check_source(plan.data, plan.validation)  # an error names the source as it was written
    check_sets(plan.validation_sets)
    places: dict[str, Any] = {"data": absolute(plan.data), "validation": plan.validation and absolute(plan.validation)}
    places |= {"validation_sets": {name: absolute(spec) for name, spec in plan.validation_sets.items()}}
    plan = plan.model_copy(update=places)
    check.check_batches(plan, space, workers)
    if "perceptual" in plan.options:  # perhaps a file, as every process finds it
        options = build(Options, plan.options, source="--option")
        plan = plan.model_copy(update={"options": {**plan.options, "perceptual": options.perceptual}})
    if plan.init or plan.init_judge or plan.init_partly:
        cheap = check.dispensable(plan, space)
        plan = plan.model_copy(update=check.first_weights(plan, space, runs) | {"cheap": cheap})
    data = check.opened_data(plan, space)
    if fetch:
        check.fetch_weights(plan, space)
    plan = plan.model_copy(update=data.fingerprints)
    if not plan.name:  # that of the same sweep, where it has begun
        before = f"{plan.recipe}-sweep-{plan.hash_1}"  # made by an earlier version
        name = before if is_sweep(runs / before) else f"{plan.recipe}-sweep-{plan.hash(FREE)}"
        plan = plan.model_copy(update={"name": name})
    ownership.refresh(runs / plan.name)
    refuse_mixed(data, begun=is_sweep(runs / plan.name))
    begun = plans.read(runs / plan.name)
    if begun and begun.learn_from == plan.learn_from:  # a begun sweep knows what it knew then
        plan = plan.model_copy(update={"earlier": begun.earlier})
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
    left_out = {"format", "name", "trials", "recipe_source", "fingerprint", "data", "validation", "earlier", "cheap"}
    left_out |= {"full", "validation_sets", "validation_fingerprints"}
    fields = plan.model_dump(exclude=left_out)
    fields["options"] = build(Options, plan.options, source="options").model_dump(exclude=FREE)
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        flat |= {f"{name}.{key}": part for key, part in value.items()} if isinstance(value, dict) else {name: value}
    return flat
