"""Search a recipe's hyperparameters on images; the same command goes on after any interruption.

What is searched stands in the recipe's search space (search_spaces/RECIPE.yaml, or --search-space FILE). Writes the
sweep's folder under --runs: a ledger of all trials, a folder for each, best.yaml for `sisr train RECIPE --config`, and
results/index.html. In MLflow a sweep is one run with a child for each trial.
Exit codes: 0 finished, 2 a wrong option or space, 3 unusable images, 5 every trial diverged, 6 the sweep is held by
another process, 75 stopped and resumable.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sisr.driver.run.execute import Tracking
    from sisr.driver.sweep.execute import Order
    from sisr.sweep.state import Sweep

SHOWN = 10  # trials in the table at the end
DATA = "demo, a folder of images, celeba:PATH, div2k:PATH, or where `sisr pack --publish` has put packed images."


def main(
    recipe: Annotated[str, typer.Argument(help="A recipe's name or file; `sisr recipes` lists them.")],
    data: Annotated[str, typer.Option(help=DATA)] = "demo",
    validation: Annotated[
        str | None, typer.Option(help="Folder of held-out images; default: split from --data.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The sweep's name; default: recipe and a hash of the plan.")] = None,
    search_space: Annotated[Path | None, typer.Option(help="YAML file instead of the recipe's own space.")] = None,
    space: Annotated[
        list[str] | None,
        typer.Option("--space", metavar="NAME=OPERATOR(...)", help="Search one setting like this; repeatable."),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Fix one setting; repeatable.")
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Points of the space to try.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Length of a trial that goes all the way.")] = None,
    search: Annotated[str | None, typer.Option(help="random, grid or tpe.")] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="asha (promote the best), pbt (copy the best) or none (train all to the end).")
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(help="A metric of the validation, or two for a Pareto search: val/psnr_y,val/perceptual."),
    ] = None,
    rungs: Annotated[
        str | None, typer.Option(help="asha: steps at which trials are compared, such as 300,1000.")
    ] = None,
    interval: Annotated[int | None, typer.Option(min=1, help="pbt: steps from one comparison to the next.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="How trials run, such as evaluate_every=200; repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the search, and of every trial's weights and batches.")] = 0,
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16, fp16 or fp64.")] = "auto",
    concurrency: Annotated[int | None, typer.Option(min=1, help="Trials at a time; default: as many as fit.")] = None,
    workers_per_trial: Annotated[int, typer.Option(min=1, help="Processes that share each trial's batch.")] = 1,
    gpus_per_trial: Annotated[
        float | None, typer.Option(min=0, help="Of each trial's worker; fractions share a GPU. Default: 1 if there.")
    ] = None,
    cpus_per_trial: Annotated[float | None, typer.Option(min=0.1, help="Of each trial's worker; default: 1.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Of a running Ray; default: RAY_ADDRESS, else started here.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder that holds all runs and sweeps.")] = Path("runs"),
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow server; default: MLFLOW_TRACKING_URI, else SQLite.")
    ] = None,
    experiment: Annotated[str, typer.Option(help="MLflow experiment.")] = "sisr",
    require_tracking: Annotated[bool, typer.Option(help="Fail at once if MLflow does not answer.")] = False,
    then_train: Annotated[bool, typer.Option("--then-train", help="Train a full run with the best settings.")] = False,
    then_steps: Annotated[
        int | None, typer.Option(min=1, help="Length of that run; default: the recipe's own.")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Check everything, print the plan, train nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Search RECIPE's hyperparameters."""
    from sisr import recipes

    recipes.find(recipe)

    from sisr.config.settings import parse_overrides
    from sisr.driver.run.execute import Tracking, summary
    from sisr.driver.sweep import execute as driver
    from sisr.errors import ConfigError, DivergedError
    from sisr.sweep.report import board
    from sisr.terminal.console import out, print_json

    if then_steps is not None and not then_train:
        raise ConfigError("--then-steps has no effect without --then-train")
    wanted = driver.Wanted(
        recipe=recipe,
        data=data,
        validation=validation,
        name=name or "",
        search_space=search_space,
        space=tuple(space or ()),
        settings=tuple(set_ or ()),
        trials=trials,
        steps=steps,
        search=search,
        scheduler=scheduler,
        objective=objective.replace(" ", "").split(",") if objective else None,
        rungs=_numbers("--rungs", rungs) if rungs else None,
        interval=interval,
        options={"precision": precision, **parse_overrides(option or [], "--option")},
        seed=seed,
    )
    plan, found_space = driver.plan_of(wanted)
    order = driver.Order(
        plan=plan,
        space=found_space,
        recipe=recipe,
        runs=runs,
        workers=workers_per_trial,
        cpus_per_worker=cpus_per_trial,
        gpus_per_worker=gpus_per_trial,
        concurrency=concurrency,
        address=address,
    )
    if dry_run:
        prepared, folder, images = driver.prepare(order)
        print_json({"sweep": prepared.model_dump(), "folder": str(folder.path), "data": images.facts})
        return
    tracking = Tracking(uri=tracking_uri, experiment=experiment, required=require_tracking)
    found = driver.execute(order, tracking)
    if found.best() is None:
        raise DivergedError(
            f"no trial of sweep {found.plan.name} could be evaluated: see {runs / found.plan.name}/results/index.html"
        )
    result: dict[str, Any] = {"folder": str(runs / found.plan.name), **board.as_json(found, board.rows(found))}
    if not json:
        _show(found, runs / found.plan.name, recipe)
    if then_train:
        result["run"] = _train_best(found, order, tracking, then_steps)
    if json:
        print_json(result)
    elif then_train:
        out.print(summary(result["run"]), markup=False)


def _numbers(option: str, text: str) -> tuple[int, ...]:
    from sisr.errors import ConfigError

    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise ConfigError(f"{option} wants steps such as 300,1000, got '{text}'") from None


def _show(sweep: "Sweep", folder: Path, recipe: str) -> None:
    from sisr.sweep.report import board
    from sisr.terminal.console import out, table

    titles, cells = board.table(sweep, board.rows(sweep)[:SHOWN], out.width if out.is_terminal else 200)
    table(f"sweep {sweep.plan.name}: the first {len(cells)} of {len(sweep.trials)} trials", titles, cells)
    out.print(f"pictures and curves:  {folder}/results/index.html", markup=False)
    out.print(f"train with the best:  sisr train {recipe} --config {folder}/best.yaml", markup=False)


def _train_best(sweep: "Sweep", order: "Order", tracking: "Tracking", steps: int | None) -> dict[str, Any]:
    """Train a full run with the best trial's settings, on the same images and with the same workers."""
    from functools import partial

    from sisr import recipes
    from sisr.cluster.train import Scaling, on_ray
    from sisr.config.settings import build, read_yaml
    from sisr.driver.run import execute
    from sisr.driver.run.workers import exactly
    from sisr.driver.sweep.files import BEST
    from sisr.errors import ConfigError
    from sisr.terminal.console import err
    from sisr.training.run import Options

    best = order.runs / sweep.plan.name / BEST
    plan = sweep.plan
    if recipes.find(order.recipe_argument).text != plan.recipe_source:
        raise ConfigError(
            f"{order.recipe_argument} has changed since the sweep began: train with {best}, if it still fits"
        )
    err.print(f"training with {best}", markup=False)
    kept = {name: value for name, value in plan.options.items() if name != "evaluate_every"}
    run = execute.Order(
        recipe=order.recipe_argument,
        values=read_yaml(best) | ({"steps": steps} if steps else {}),
        options=build(Options, kept, source="--option"),
        data=plan.data,
        validation=plan.validation,
        runs=order.runs,
        workers=exactly(order.workers),
        source=str(best),
    )
    scaling = Scaling(
        workers=exactly(order.workers),
        gpus_per_worker=order.gpus_per_worker,
        cpus_per_worker=order.cpus_per_worker if order.workers > 1 else None,
        address=order.address,
    )
    return execute.execute(run, tracking, partial(on_ray, scaling))


if __name__ == "__main__":
    from sisr.terminal.cli import run

    run(main)
