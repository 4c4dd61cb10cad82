"""Train one recipe on images; the same command goes on after any interruption.

Writes the run's folder (checkpoints, samples, metrics, the final model) under --runs and follows it in MLflow.
Exit codes: 0 finished, 2 a wrong option, 3 unusable images, 5 diverged, 6 the run is held by another process,
75 stopped and resumable.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sisr import recipes
from sisr.config.settings import build, parse_overrides, read_yaml
from sisr.disk.run_folder import RunFolder
from sisr.errors import ConfigError
from sisr.pipelines._options import HELD_OUT, TRACKING_URI, TRAINING_IMAGES, Json
from sisr.terminal import cli
from sisr.terminal.console import out, print_json

if TYPE_CHECKING:
    from sisr.cluster.train import Scaling
    from sisr.driver.run.hosts import RunHost

RECIPE = "A recipe's name (`sisr recipes` lists them), a recipe file such as my_recipe.py, or a dotted module."
INIT = "Start the generator with the weights of a run, a model folder, a weights file or models:/...; random without."
WORKERS = "Processes that share each batch; 2:8 goes on with 2 when nodes vanish, and grows to 8 when they come."
PLAIN = "Plain processes instead of Ray: starts in seconds, for debugging."
NAME = "The run's name; default: recipe and a hash of all settings."
OPTION = "How to run, such as evaluate_every=200; repeatable."
ADDRESS = "Of a running Ray, or local; default: RAY_ADDRESS, else that of this machine, else started here."

images = partial(typer.Option, rich_help_panel="Images")
learned = partial(typer.Option, rich_help_panel="What is learned")
executed = partial(typer.Option, rich_help_panel="How it is run")
tracked = partial(typer.Option, rich_help_panel="Where it is kept")


def main(
    recipe: Annotated[str, typer.Argument(help=RECIPE)],
    data: Annotated[str, images(help=TRAINING_IMAGES)] = "demo",
    validation: Annotated[str | None, images(help=HELD_OUT)] = None,
    max_bad: Annotated[float, images(min=0, max=1, help="Refused image files, as a fraction, that stop it.")] = 0.01,
    config: Annotated[Path | None, learned(help="YAML file of the recipe's settings.")] = None,
    set_: Annotated[list[str] | None, learned("--set", metavar="NAME=VALUE", help="One setting; repeatable.")] = None,
    steps: Annotated[int | None, learned(min=1, help="Length of the run; same as --set steps=N.")] = None,
    seed: Annotated[int, learned(min=0, help="Of weights, batches and all other random numbers.")] = 0,
    init: Annotated[str | None, learned(help=INIT)] = None,
    option: Annotated[list[str] | None, executed("--option", metavar="NAME=VALUE", help=OPTION)] = None,
    precision: Annotated[str, executed(help="auto, fp32, bf16, fp16 or fp64.")] = "auto",
    compile_: Annotated[bool, executed("--compile", help="Compile the networks: later start, faster steps.")] = False,
    workers: Annotated[str, executed(metavar="N|LEAST:MOST", help=WORKERS)] = "1",
    gpus_per_worker: Annotated[float | None, executed(min=0, help="Fractions share one. Default: 1 if there.")] = None,
    cpus_per_worker: Annotated[float | None, executed(min=0.1, help="Default: an equal part.")] = None,
    max_failures: Annotated[int, executed(min=0, help="Restarts after a worker or node is lost.")] = 3,
    address: Annotated[str | None, executed(help=ADDRESS)] = None,
    local: Annotated[bool, executed("--local", help=PLAIN)] = False,
    name: Annotated[str | None, tracked(help=NAME)] = None,
    runs: Annotated[Path, tracked(help="Folder that holds all runs.")] = Path("runs"),
    tracking_uri: Annotated[str | None, tracked(help=TRACKING_URI)] = None,
    experiment: Annotated[str | None, tracked(help="MLflow experiment; default: as before, else sisr.")] = None,
    require_tracking: Annotated[bool, tracked(help="Fail at once if MLflow does not answer.")] = False,
    allow_changes: Annotated[bool, tracked(help="Go on with other settings or images than before.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Check everything, print the run, train nothing.")] = False,
    json: Json = False,
) -> None:
    """Train RECIPE on images."""
    # What can be answered before torch and Ray are imported.
    recipes.find(recipe)
    if name:
        RunFolder(runs / name).check_free()

    from sisr.cluster.train import Scaling
    from sisr.driver.run import execute
    from sisr.driver.run.workers import parse
    from sisr.training.run import Options

    scaling = Scaling(
        workers=parse(workers),
        gpus_per_worker=gpus_per_worker,
        cpus_per_worker=cpus_per_worker,
        max_failures=max_failures,
        address=address,
    )
    host = _host(scaling, local)
    values = read_yaml(config) if config else {}
    values = values | parse_overrides(set_ or []) | ({"steps": steps} if steps else {})
    chosen = {"seed": seed, "precision": precision, "compile": compile_, "max_bad": max_bad}
    chosen |= parse_overrides(option or [], "--option")
    order = execute.Order(
        recipe=recipe,
        values=values,
        options=build(Options, chosen, source="--option"),
        data=data,
        validation=validation,
        name=name,
        runs=runs,
        workers=scaling.workers,
        allow_changes=allow_changes,
        init=init,
    )
    if dry_run:
        run, folder, opened = execute.prepare(order)
        print_json({"run": run.model_dump(), "folder": str(folder.path), "data": opened.facts})
        return
    tracking = execute.Tracking(uri=tracking_uri, experiment=experiment, required=require_tracking)
    status = execute.execute(order, tracking, host)
    if json:
        print_json(status)
    else:
        out.print(execute.summary(status), markup=False)


def _host(scaling: "Scaling", local: bool) -> "RunHost":
    """Return what executes the run: plain processes, or Ray's workers."""
    from sisr.cluster.train import on_ray
    from sisr.driver.run import hosts

    if not local:
        return partial(on_ray, scaling)
    for option in ("gpus_per_worker", "cpus_per_worker", "address"):
        if getattr(scaling, option) is not None:
            flag = f"--{option.replace('_', '-')}"
            raise ConfigError(f"{flag} has no effect with --local, which uses no Ray: leave one of them out")
    if scaling.workers.elastic:
        raise ConfigError(
            f"--workers {scaling.workers} needs Ray, which --local leaves out: name one number of workers"
        )
    return hosts.in_process if scaling.workers.most == 1 else partial(hosts.in_processes, scaling.workers.most)


if __name__ == "__main__":
    cli.run(main)
