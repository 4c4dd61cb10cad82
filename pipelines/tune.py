"""Search a recipe's hyperparameters on images; the same command goes on after any interruption.

What is searched stands in the recipe's search space (search_spaces/RECIPE.yaml, or --search-space FILE). Writes the
sweep's folder under --runs: a ledger of all trials, a folder for each, best.yaml for `sisr train RECIPE --config`, and
results/index.html. In MLflow a sweep is one run with a child for each trial.
Exit codes: 0 finished, 2 a wrong option or space, 3 unusable images, 5 every trial diverged, 6 the sweep is held by
another process, 73 the disk can't be written, 74 object storage can't be used, 75 stopped and resumable.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sisr import recipes
from sisr.cluster import early
from sisr.config.settings import parse_overrides
from sisr.disk.sweep_folder import FILE
from sisr.driver.run import again
from sisr.errors import ConfigError
from sisr.pipelines._after_sweep import ended, train_best
from sisr.pipelines._completion import preset_names, run_names
from sisr.pipelines._options import TRACKING_URI, TRAINING_IMAGES, VALIDATION, Json, Runs, folder_of, inputs_of
from sisr.sweep.plan import Plan
from sisr.terminal import cli
from sisr.terminal.console import note

if TYPE_CHECKING:
    from sisr.cluster.tune import RayTune
    from sisr.sweep.space.space import SearchSpace

FROM = (
    "A run whose recipe, settings, options, images and first weights trials take, where nothing else is given and the "
    "space does not search."
)
PRESET = "Settings for a machine or a kind of images, where the space does not search; repeatable, the last one wins."
CHANGES = "Go on with a sweep that had other settings or images."
SPACE = "Search one setting like this; repeatable."
LEARN_FROM = "Earlier sweeps of the recipe, whose trials start the search."
CONSTRAINT = "What holds in every trial, such as 'beta1 < beta2'; repeatable; instead of the space's own."
OBJECTIVE = "A metric of the validation, or two for a Pareto search: val/psnr_y,val/perceptual."
SCHEDULER = "asha or hyperband (promote the best), pbt (copy the best), plateau (end what stands still) or none."
SEARCH_NAME = "tpe, random, grid, or a searcher of Ray Tune whose package is installed, such as hyperopt."
SEARCH_OPTION = "Of a searcher of Ray Tune, by Ray's name, such as n_initial_points=8; repeatable."
SCHEDULER_OPTION = "Of the scheduler, such as eta=4; repeatable."
OPTION = "How trials run, such as evaluate_every=200; repeatable."
INIT = "Start every trial's generator with the weights of a run, a model folder, a weights file or models:/..."
INIT_PARTLY = "Take the weights of --init that fit, leave the others random, and say which."
INIT_JUDGE = "Start every trial's judge with that of a run's newest checkpoint, or with a weights file."
GPUS = "Of each trial's worker; fractions share a GPU. Default: 1 if there."
# Groups of options in --help.
SEARCH = partial(typer.Option, rich_help_panel="Search")
TRIALS = partial(typer.Option, rich_help_panel="Trials")
RESOURCES = partial(typer.Option, rich_help_panel="Resources")
TRACKING = partial(typer.Option, rich_help_panel="Tracking")
AFTER = partial(typer.Option, rich_help_panel="Afterwards")


def main(
    recipe: Annotated[
        str | None,
        typer.Argument(help="A recipe's name or file; `sisr recipes` lists them.", autocompletion=recipes.names),
    ] = None,
    data: Annotated[str | None, typer.Option(help=f"{TRAINING_IMAGES} Default: demo.")] = None,
    validation: Annotated[list[str] | None, typer.Option(metavar="[NAME=]PATH", help=VALIDATION)] = None,
    name: Annotated[str | None, typer.Option(help="The sweep's name; default: recipe and a hash of the plan.")] = None,
    runs: Runs = Path("runs"),
    allow_changes: Annotated[bool, typer.Option("--allow-changes", help=CHANGES)] = False,
    dry_run: Annotated[bool, typer.Option(help="Check everything, print the plan, train nothing.")] = False,
    json: Json = False,
    search_space: Annotated[Path | None, SEARCH(help="YAML file instead of the recipe's own space.")] = None,
    space: Annotated[list[str] | None, SEARCH("--space", metavar="NAME=OPERATOR(...)", help=SPACE)] = None,
    constraint: Annotated[list[str] | None, SEARCH(metavar="CONDITION", help=CONSTRAINT)] = None,
    search: Annotated[str | None, SEARCH(help=SEARCH_NAME)] = None,
    search_option: Annotated[list[str] | None, SEARCH(metavar="NAME=VALUE", help=SEARCH_OPTION)] = None,
    trials: Annotated[int | None, SEARCH(min=1, help="Points of the space to try.")] = None,
    objective: Annotated[str | None, SEARCH(help=OBJECTIVE)] = None,
    learn_from: Annotated[str | None, SEARCH(metavar="SWEEP[,SWEEP...]", help=LEARN_FROM)] = None,
    scheduler: Annotated[str | None, SEARCH(help=SCHEDULER)] = None,
    scheduler_option: Annotated[list[str] | None, SEARCH(metavar="NAME=VALUE", help=SCHEDULER_OPTION)] = None,
    rungs: Annotated[str | None, SEARCH(help="asha: steps at which trials are compared, such as 300,1000.")] = None,
    interval: Annotated[int | None, SEARCH(min=1, help="pbt: steps from one comparison to the next.")] = None,
    seed: Annotated[int, SEARCH(min=0, help="Of the search, and of every trial's weights and batches.")] = 0,
    from_: Annotated[str | None, TRIALS("--from", metavar="RUN", help=FROM, autocompletion=run_names)] = None,
    preset: Annotated[list[str] | None, TRIALS(metavar="NAME", help=PRESET, autocompletion=preset_names)] = None,
    set_: Annotated[list[str] | None, TRIALS("--set", metavar="NAME=VALUE", help="Fix a setting; repeatable.")] = None,
    steps: Annotated[int | None, TRIALS(min=1, help="Length of a trial that goes all the way.")] = None,
    option: Annotated[list[str] | None, TRIALS("--option", metavar="NAME=VALUE", help=OPTION)] = None,
    init: Annotated[str | None, TRIALS(help=INIT)] = None,
    init_partly: Annotated[bool, TRIALS("--init-partly", help=INIT_PARTLY)] = False,
    init_judge: Annotated[str | None, TRIALS(help=INIT_JUDGE)] = None,
    precision: Annotated[str | None, TRIALS(help="auto, fp32, bf16, fp16 or fp64; default: auto.")] = None,
    concurrency: Annotated[int | None, RESOURCES(min=1, help="Trials at a time; default: as many as fit.")] = None,
    workers_per_trial: Annotated[int, RESOURCES(min=1, help="Processes that divide each trial's batch.")] = 1,
    gpus_per_trial: Annotated[float | None, RESOURCES(min=0, help=GPUS)] = None,
    cpus_per_trial: Annotated[float | None, RESOURCES(min=0.1, help="Of each trial's worker; default: 1.")] = None,
    address: Annotated[str | None, RESOURCES(help="Of a running Ray; default: RAY_ADDRESS, else started here.")] = None,
    tracking_uri: Annotated[str | None, TRACKING(help=TRACKING_URI)] = None,
    experiment: Annotated[str | None, TRACKING(help="MLflow experiment; default: as before, else sisr.")] = None,
    require_tracking: Annotated[bool, TRACKING(help="Fail at once if MLflow does not answer.")] = False,
    then_train: Annotated[bool, AFTER("--then-train", help="Train a full run with the best settings.")] = False,
    then_steps: Annotated[int | None, AFTER(min=1, help="Length of that run; default: the recipe's own.")] = None,
) -> dict[str, Any]:
    """Search RECIPE's hyperparameters."""
    before = again.read(folder_of("run", from_, runs, again.RECORD) / again.RECORD) if from_ else None
    before = before and again.for_trials(before, recipe)
    recipe = again.recipe_named(recipe, before)
    base, options = again.together(before, recipes.find(recipe), preset or [], None, {})
    options = {"precision": "auto", **options} | ({"precision": precision} if precision else {})
    if then_steps is not None and not then_train:
        raise ConfigError("--then-steps has no effect without --then-train")
    note(f"{recipe}: importing torch and Ray, reading the search space and the images")
    if not dry_run:
        early.begin(address)

    from sisr.cluster.searchers import RaySearchers
    from sisr.cluster.tune import RayTune
    from sisr.driver.run.execute import Tracking
    from sisr.driver.sweep.execute import execute
    from sisr.driver.sweep.full_run import check_full
    from sisr.driver.sweep.planning import plan_of

    used = inputs_of(data, validation, init, init_partly, init_judge, before)
    objectives = objective.replace(" ", "").split(",") if objective else None
    searchers = RaySearchers()
    plan, found_space = plan_of(
        recipe,
        data=used.source,
        validation=used.validation,
        validation_sets=used.validation_sets,
        name=name or "",
        search_space=search_space,
        changes={"trials": trials, "steps": steps, "search": search, "scheduler": scheduler, "objective": objectives}
        | {"constraints": constraint or None},
        space=space or (),
        settings=set_ or (),
        scheduler_options=_scheduler_options(rungs, interval, scheduler_option or []),
        search_options=parse_overrides(search_option or [], "--search-option"),
        searchers=searchers,
        options=options | parse_overrides(option or [], "--option"),
        base=base,
        seed=seed,
        runs=runs,
        first=used.first,
        learn_from=[folder_of("sweep", one.strip(), runs, FILE) for one in (learn_from or "").split(",") if one],
    )
    if then_train:
        check_full(plan, found_space, runs, recipe, workers_per_trial, then_steps)
    host = RayTune(
        workers=workers_per_trial,
        cpus_per_worker=cpus_per_trial,
        gpus_per_worker=gpus_per_trial,
        concurrency=concurrency,
        address=address,
    )
    if dry_run:
        return _checked(plan, found_space, runs, host)
    tracking = Tracking(uri=tracking_uri, experiment=experiment, required=require_tracking)
    sweep = execute(
        plan, found_space, host, tracking, runs=runs, recipe=recipe, allow_changes=allow_changes, searchers=searchers
    )
    then = partial(train_best, host=host, tracking=tracking, steps=then_steps) if then_train else None
    return ended(sweep, found_space, runs / sweep.plan.name, recipe, then, json)


def _checked(plan: Plan, space: "SearchSpace", runs: Path, host: "RayTune") -> dict[str, Any]:
    """Show and return the sweep that would be searched, and what a trial takes here; nothing is fetched."""
    from sisr.cluster.connection import alone
    from sisr.driver.run import dry_run
    from sisr.driver.run.workers import exactly
    from sisr.driver.sweep.check import first_run
    from sisr.driver.sweep.planning import prepare

    if here := alone(host.address):
        dry_run.check_machine(exactly(host.workers), host.cpus_per_worker, host.gpus_per_worker, of="trial")
    prepared, folder, images = prepare(plan, space, runs, host.workers, fetch=False)
    found = {"sweep": prepared.model_dump(), "folder": str(folder.path), "data": images.facts}
    checked = found | dry_run.takes(first_run(prepared, space), host.workers, host.gpus_per_worker, here=here)
    dry_run.show(checked, "one trial that goes all the way, at the first values of the space:")
    return checked


def _scheduler_options(rungs: str | None, interval: int | None, texts: list[str]) -> dict[str, Any]:
    try:
        steps = {"rungs": tuple(int(word) for word in rungs.split(","))} if rungs else {}
    except ValueError:
        raise ConfigError(f"--rungs wants steps such as 300,1000, got '{rungs}'") from None
    return steps | ({} if interval is None else {"interval": interval}) | parse_overrides(texts, "--scheduler-option")


if __name__ == "__main__":
    cli.run(main)
