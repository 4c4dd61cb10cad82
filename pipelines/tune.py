"""Search a recipe's hyperparameters on images; the same command goes on after any interruption.

What is searched stands in the recipe's search space (search_spaces/RECIPE.yaml, or --search-space FILE). Writes the
sweep's folder under --runs: a ledger of all trials, a folder for each, best.yaml for `sisr train RECIPE --config`, and
results/index.html. In MLflow a sweep is one run with a child for each trial.
Exit codes: 0 finished, 2 a wrong option or space, 3 unusable images, 5 every trial diverged, 6 the sweep is held by
another process, 75 stopped and resumable.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sisr import recipes
from sisr.config.settings import parse_overrides
from sisr.errors import ConfigError
from sisr.pipelines._options import HELD_OUT, TRACKING_URI, TRAINING_IMAGES, Json, Runs
from sisr.sweep.plan import Plan
from sisr.sweep.report import board
from sisr.terminal import cli
from sisr.terminal.console import err, out, print_json, table

if TYPE_CHECKING:
    from sisr.cluster.tune import RayTune
    from sisr.driver.run.execute import Tracking
    from sisr.sweep.state import Sweep

SHOWN = 10  # trials in the table at the end
CHANGES = "Go on with a sweep that had other settings or images."
SPACE = "Search one setting like this; repeatable."
OBJECTIVE = "A metric of the validation, or two for a Pareto search: val/psnr_y,val/perceptual."
SCHEDULER = "asha (promote the best), pbt (copy the best) or none (train all to the end)."
SCHEDULER_OPTION = "Of the scheduler, such as eta=4; repeatable."
FIXED = "Fix one setting; repeatable."
OPTION = "How trials run, such as evaluate_every=200; repeatable."
GPUS = "Of each trial's worker; fractions share a GPU. Default: 1 if there."
# Groups of options in --help.
SEARCH = partial(typer.Option, rich_help_panel="Search")
TRIALS = partial(typer.Option, rich_help_panel="Trials")
RESOURCES = partial(typer.Option, rich_help_panel="Resources")
TRACKING = partial(typer.Option, rich_help_panel="Tracking")
AFTER = partial(typer.Option, rich_help_panel="Afterwards")


def main(
    recipe: Annotated[str, typer.Argument(help="A recipe's name or file; `sisr recipes` lists them.")],
    data: Annotated[str, typer.Option(help=TRAINING_IMAGES)] = "demo",
    validation: Annotated[str | None, typer.Option(help=HELD_OUT)] = None,
    name: Annotated[str | None, typer.Option(help="The sweep's name; default: recipe and a hash of the plan.")] = None,
    runs: Runs = Path("runs"),
    allow_changes: Annotated[bool, typer.Option("--allow-changes", help=CHANGES)] = False,
    dry_run: Annotated[bool, typer.Option(help="Check everything, print the plan, train nothing.")] = False,
    json: Json = False,
    search_space: Annotated[Path | None, SEARCH(help="YAML file instead of the recipe's own space.")] = None,
    space: Annotated[list[str] | None, SEARCH("--space", metavar="NAME=OPERATOR(...)", help=SPACE)] = None,
    search: Annotated[str | None, SEARCH(help="random, grid or tpe.")] = None,
    trials: Annotated[int | None, SEARCH(min=1, help="Points of the space to try.")] = None,
    objective: Annotated[str | None, SEARCH(help=OBJECTIVE)] = None,
    scheduler: Annotated[str | None, SEARCH(help=SCHEDULER)] = None,
    scheduler_option: Annotated[list[str] | None, SEARCH(metavar="NAME=VALUE", help=SCHEDULER_OPTION)] = None,
    rungs: Annotated[str | None, SEARCH(help="asha: steps at which trials are compared, such as 300,1000.")] = None,
    interval: Annotated[int | None, SEARCH(min=1, help="pbt: steps from one comparison to the next.")] = None,
    seed: Annotated[int, SEARCH(min=0, help="Of the search, and of every trial's weights and batches.")] = 0,
    set_: Annotated[list[str] | None, TRIALS("--set", metavar="NAME=VALUE", help=FIXED)] = None,
    steps: Annotated[int | None, TRIALS(min=1, help="Length of a trial that goes all the way.")] = None,
    option: Annotated[list[str] | None, TRIALS("--option", metavar="NAME=VALUE", help=OPTION)] = None,
    precision: Annotated[str, TRIALS(help="auto, fp32, bf16, fp16 or fp64.")] = "auto",
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
) -> None:
    """Search RECIPE's hyperparameters."""
    recipes.find(recipe)
    if then_steps is not None and not then_train:
        raise ConfigError("--then-steps has no effect without --then-train")

    from sisr.cluster.tune import RayTune
    from sisr.driver.run.execute import Tracking, summary
    from sisr.driver.sweep.execute import execute, nothing_found
    from sisr.driver.sweep.planning import plan_of, prepare

    objectives = objective.replace(" ", "").split(",") if objective else None
    given = {"rungs": _steps("--rungs", rungs), "interval": interval}
    plan, found_space = plan_of(
        recipe,
        data=data,
        validation=validation,
        name=name or "",
        search_space=search_space,
        changes={"trials": trials, "steps": steps, "search": search, "scheduler": scheduler, "objective": objectives},
        space=space or (),
        settings=set_ or (),
        scheduler_options={name: value for name, value in given.items() if value is not None}
        | parse_overrides(scheduler_option or [], "--scheduler-option"),
        options={"precision": precision, **parse_overrides(option or [], "--option")},
        seed=seed,
    )
    if dry_run:
        prepared, folder, images = prepare(plan, found_space, runs, workers_per_trial)
        print_json({"sweep": prepared.model_dump(), "folder": str(folder.path), "data": images.facts})
        return
    tracking = Tracking(uri=tracking_uri, experiment=experiment, required=require_tracking)
    host = RayTune(
        workers=workers_per_trial,
        cpus_per_worker=cpus_per_trial,
        gpus_per_worker=gpus_per_trial,
        concurrency=concurrency,
        address=address,
    )
    sweep = execute(plan, found_space, host, tracking, runs=runs, recipe=recipe, allow_changes=allow_changes)
    path = runs / sweep.plan.name
    if sweep.best() is None:
        raise nothing_found(sweep, path)
    result: dict[str, Any] = {"folder": str(path), **board.as_json(sweep, board.rows(sweep))}
    if not json:
        _show(sweep, path, recipe)
    if then_train:
        result["run"] = _train_best(sweep.plan, path, recipe, host, tracking, then_steps)
    if json:
        print_json(result)
    elif then_train:
        out.print(summary(result["run"]), markup=False)


def _steps(option: str, text: str | None) -> tuple[int, ...] | None:
    try:
        return tuple(int(word) for word in text.split(",")) if text else None
    except ValueError:
        raise ConfigError(f"{option} wants steps such as 300,1000, got '{text}'") from None


def _show(sweep: "Sweep", folder: Path, recipe: str) -> None:
    titles, cells = board.table(sweep, board.rows(sweep)[:SHOWN], out.width if out.is_terminal else 200)
    table(f"sweep {sweep.plan.name}: the first {len(cells)} of {len(sweep.trials)} trials", titles, cells)
    out.print(f"pictures and curves:  {folder}/results/index.html", markup=False)
    out.print(f"train with the best:  sisr train {recipe} --config {folder}/best.yaml", markup=False)


def _train_best(
    plan: Plan, folder: Path, recipe: str, host: "RayTune", tracking: "Tracking", steps: int | None
) -> dict[str, Any]:
    """Train a full run with the best trial's settings, on the same images and with the same workers."""
    from sisr.cluster.train import Scaling, on_ray
    from sisr.driver.run.execute import execute
    from sisr.driver.run.workers import exactly
    from sisr.driver.sweep.files import BEST
    from sisr.driver.sweep.planning import best_order

    err.print(f"training with {folder / BEST}", markup=False)
    scaling = Scaling(
        workers=exactly(host.workers),
        gpus_per_worker=host.gpus_per_worker,
        cpus_per_worker=host.cpus_per_worker if host.workers > 1 else None,
        address=host.address,
    )
    return execute(best_order(plan, folder, recipe, host.workers, steps), tracking, partial(on_ray, scaling))


if __name__ == "__main__":
    cli.run(main)
