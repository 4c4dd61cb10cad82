"""What somebody asked to search, checked and turned into the plan of a sweep before anything starts."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sisr import recipes, trust
from sisr.cluster.order import buildable
from sisr.config import build
from sisr.data.sources import absolute, open_source
from sisr.errors import ConfigError
from sisr.metrics import perceptual
from sisr.sweep import space_file
from sisr.sweep.plan import Plan
from sisr.sweep.space import SearchSpace
from sisr.sweep.space_file import SpaceFile
from sisr.sweep.state import Trial
from sisr.training.dataset import TrainingData, open_data
from sisr.training.folder import RunFolder
from sisr.training.loop import share_of_batch
from sisr.training.run import Options, Run, check_name


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
    runs: Path = Path("runs")
    workers: int = 1  # of each trial
    cpus_per_worker: float | None = None
    gpus_per_worker: float | None = None
    concurrency: int | None = None
    address: str | None = None  # of a running Ray


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
    marks, every = _marks(file, wanted)
    options = {"evaluate_every": every, "seed": wanted.seed, **wanted.options}
    build(Options, options, source="--option")
    fields = {**file.plan_fields(), **marks, "options": options, "seed": wanted.seed, "name": wanted.name}
    if file.search == "grid":
        fields["trials"] = _grid_trials(space.grid_size(), file.trials, wanted.trials)
    images = {"data": wanted.data, "validation": wanted.validation}
    recipe = {"recipe": source.name, "recipe_source": source.text}
    return build(Plan, {**fields, **images, **recipe}, source="the sweep"), space


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
    steps, every = file.steps, wanted.options.get("evaluate_every")
    if file.scheduler == "asha":
        every = every or (wanted.rungs[0] if wanted.rungs else max(1, steps // 18))
        rungs = wanted.rungs or tuple(
            sorted({max(1, round(steps / part / every)) * every for part in (9, 3)} - {steps})
        )
        fields: dict[str, Any] = {"rungs": rungs}
    elif file.scheduler == "pbt":
        rungs = (wanted.interval or max(1, steps // 10),)
        every = every or rungs[0]
        fields = {"interval": rungs[0]}
    else:
        every, rungs, fields = every or max(1, steps // 10), (), {}
    if wrong := [rung for rung in rungs if rung % every]:
        raise ConfigError(
            f"trials are compared at step {wrong[0]:,} but evaluated every {every:,}: give an --option evaluate_every "
            f"that divides {', '.join(map(str, rungs))}"
        )
    return fields, every


def trial_run(plan: Plan, trial: Trial) -> Run:
    """Return the run that a trial is, with the settings that hold now."""
    config = {**plan.fixed, **trial.params, "steps": plan.steps}
    module = recipes.load(plan.recipe, plan.recipe_source)
    return Run(
        name=f"{plan.name}-{trial.name}",
        recipe=plan.recipe,
        recipe_source=plan.recipe_source,
        config=build(module.Config, config, source=f"trial {trial.name}").model_dump(mode="json"),
        options=build(Options, plan.options, source="--option"),
        data=plan.data,
        validation=plan.validation,
        fingerprint=plan.fingerprint,
    )


def prepare(order: Order) -> tuple[Plan, RunFolder, TrainingData]:
    """Check an order, pack its images, and return the plan, the sweep's folder and the data.

    Raises:
        ConfigError: A setting or the name can't be used.
        DataError: The images can't be used.
    """
    plan = order.plan
    if plan.name:
        check_name(plan.name)
    open_source(plan.data, plan.validation)  # an error names the source as it was written
    plan = plan.model_copy(
        update={"data": absolute(plan.data), "validation": plan.validation and absolute(plan.validation)}
    )
    run = trial_run(plan.model_copy(update={"name": "trial"}), Trial(0, {}, {}))
    share_of_batch(run.config["batch_size"], order.workers, run.options.accumulate)
    data = open_data(run, buildable(run, plan.recipe), show=True)
    perceptual.offered(run.options.perceptual, data.least_side)
    if "perceptual" in plan.options:  # perhaps a file, as every process finds it
        plan = plan.model_copy(update={"options": {**plan.options, "perceptual": run.options.perceptual}})
    plan = plan.model_copy(update={"fingerprint": data.fingerprint})
    if not plan.name:
        plan = plan.model_copy(update={"name": f"{plan.recipe}-sweep-{plan.hash}"})
    return plan, RunFolder(order.runs / plan.name), data
