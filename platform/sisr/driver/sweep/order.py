"""What somebody asked to search, checked and turned into the plan of a sweep before anything starts."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sisr import recipes
from sisr.config.settings import build
from sisr.data.sources.catalogue import absolute, check_source
from sisr.disk.run_folder import RunFolder
from sisr.driver.sweep import check
from sisr.errors import ConfigError
from sisr.models import trust
from sisr.sweep.plan import Plan
from sisr.sweep.space import file as space_file
from sisr.sweep.space.file import SpaceFile
from sisr.sweep.space.space import SearchSpace
from sisr.training.dataset import TrainingData
from sisr.training.run import Options, check_name


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What somebody asked to search; None leaves it to the search space's file."""

    recipe: str
    data: str = "demo"
    validation: str | None = None
    name: str = ""  # empty: made from the recipe and a hash of the plan
    search_space: Path | None = None  # None: the recipe's own
    space: tuple[str, ...] = ()  # texts of --space
    settings: tuple[str, ...] = ()  # texts of --set
    trials: int | None = None
    steps: int | None = None
    search: str | None = None
    scheduler: str | None = None
    objective: list[str] | None = None
    rungs: tuple[int, ...] | None = None  # asha: None: a ninth and a third of the steps
    interval: int | None = None  # pbt: None: a tenth of the steps
    options: dict[str, Any] = field(default_factory=dict)  # of `training.run.Options`
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Order:
    """A sweep, and what it may use."""

    plan: Plan
    space: SearchSpace
    recipe: str = ""  # as it was asked for, perhaps a file; empty: by the plan's name for it
    runs: Path = Path("runs")
    workers: int = 1  # of each trial
    cpus_per_worker: float | None = None
    gpus_per_worker: float | None = None
    concurrency: int | None = None
    address: str | None = None  # of a running Ray

    @property
    def recipe_argument(self) -> str:
        """What finds the recipe again: `sisr train` wants it."""
        return self.recipe or self.plan.recipe


def plan_of(wanted: Wanted) -> tuple[Plan, SearchSpace]:
    """Return the plan of a sweep, and its space, both checked against the recipe.

    Raises:
        ConfigError: The recipe, its space, or a setting can't be used.
    """
    source = recipes.find(wanted.recipe)
    module = recipes.load(source.name, source.text, source.where)
    if source.text:
        trust.remember(source.name, source.text, source.where)
    names = ("trials", "steps", "search", "scheduler", "objective")
    file, space = space_file.load(
        space_file.find(wanted.recipe, wanted.search_space),
        module.Config,
        options={name: getattr(wanted, name) for name in names},
        space=wanted.space,
        settings=wanted.settings,
    )
    build(Options, wanted.options, source="--option")
    marks, every = _marks(file, wanted)
    options = {"evaluate_every": every, "seed": wanted.seed, **wanted.options}
    fields = {**file.plan_fields(), **marks, "options": options, "seed": wanted.seed, "name": wanted.name}
    if file.search == "grid":
        fields["trials"] = _grid_trials(space.grid_size(), file.trials, wanted.trials)
    images = {"data": wanted.data, "validation": wanted.validation}
    recipe = {"recipe": source.name, "recipe_source": source.text}
    plan = build(Plan, {**fields, **images, **recipe}, source="the sweep")
    if plan.scheduler == "pbt":
        space = replace(space, kept=check.deciding_shapes(plan, space))
    return plan, space


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


def _marks(file: SpaceFile, wanted: Wanted) -> tuple[dict[str, Any], int]:
    """Return where trials are compared, as a plan's fields, and how often they are evaluated.

    Raises:
        ConfigError: The scheduler compares elsewhere, or trials are not evaluated where they are compared.
    """
    for option, value, scheduler in (("--rungs", wanted.rungs, "asha"), ("--interval", wanted.interval, "pbt")):
        if value is not None and file.scheduler != scheduler:
            raise ConfigError(f"{option} has no effect with the scheduler {file.scheduler}: leave it out")
    every = wanted.options.get("evaluate_every")
    match file.scheduler:
        case "asha":
            rungs, every = _rungs(file.steps, wanted.rungs, every)
            fields: dict[str, Any] = {"rungs": rungs}
        case "pbt":
            rungs = (_interval(file.steps, wanted.interval),)
            every, fields = every or rungs[0], {"interval": rungs[0]}
        case _:
            every, rungs, fields = every or max(1, file.steps // 10), (), {}
    if wrong := [rung for rung in rungs if rung % every]:
        raise ConfigError(
            f"trials are compared at step {wrong[0]:,} but evaluated every {every:,}: give an --option evaluate_every "
            f"that divides {', '.join(map(str, rungs))}"
        )
    return fields, every


def _rungs(steps: int, asked: tuple[int, ...] | None, every: int | None) -> tuple[tuple[int, ...], int]:
    """Return where asha compares, by default after a ninth and a third of the steps, and how often to evaluate."""
    if asked is not None:
        if list(asked) != sorted(set(asked)) or not all(0 < rung < steps for rung in asked):
            raise ConfigError(f"--rungs must rise and lie between 0 and steps {steps}, got {','.join(map(str, asked))}")
        return asked, every or asked[0]
    if every is not None and every >= steps:
        raise ConfigError(
            f"asha compares trials before their end, but evaluate_every {every} is no less than their steps {steps}: "
            "give a smaller one"
        )
    every = every or max(1, steps // 18)
    marks = {max(1, round(steps / part / every)) * every for part in (9, 3)}
    return tuple(sorted(mark for mark in marks if mark < steps)), every


def _interval(steps: int, asked: int | None) -> int:
    """Return how many steps lie between two comparisons of a population, by default a tenth of all."""
    if asked is not None and asked >= steps:
        raise ConfigError(f"--interval {asked} is no less than the {steps} steps of a trial: nobody would copy anybody")
    return asked or max(1, steps // 10)


def prepare(order: Order) -> tuple[Plan, RunFolder, TrainingData]:
    """Check an order, pack its images, and return the plan, the sweep's folder and the data.

    Raises:
        ConfigError: A setting or the name can't be used.
        DataError: The images can't be used.
    """
    plan = order.plan
    if plan.name:
        check_name(plan.name)
    check_source(plan.data, plan.validation)  # an error names the source as it was written
    plan = plan.model_copy(
        update={"data": absolute(plan.data), "validation": plan.validation and absolute(plan.validation)}
    )
    check.check_batches(plan, order.space, order.workers)
    if "perceptual" in plan.options:  # perhaps a file, as every process finds it
        options = build(Options, plan.options, source="--option")
        plan = plan.model_copy(update={"options": {**plan.options, "perceptual": options.perceptual}})
    data = check.opened_data(plan, order.space)
    plan = plan.model_copy(update={"fingerprint": data.fingerprint})
    if not plan.name:
        plan = plan.model_copy(update={"name": f"{plan.recipe}-sweep-{plan.hash}"})
    return plan, RunFolder(order.runs / plan.name), data
