"""Train one recipe on images; the same command goes on after any interruption.

Writes the run's folder (checkpoints, samples, metrics, the final model) under --runs and follows it in MLflow.
Exit codes: 0 finished, 2 a wrong option, 3 unusable images, 5 diverged, 6 the run is held by another process,
75 stopped and resumable.
"""

from pathlib import Path
from typing import Annotated

import typer

RECIPE = "A recipe's name (`sisr recipes` lists them), a recipe file such as my_recipe.py, or a dotted module."
INIT = "Start the generator with the weights of a run, a model folder, a weights file or models:/...; random without."
WORKERS = "Processes that share each batch; 2:8 goes on with 2 when nodes vanish, and grows to 8 when they come."
PLAIN = "Plain processes instead of Ray: starts in seconds, for debugging."
DATA = "demo, a folder of images, celeba:PATH, div2k:PATH, or where `sisr pack --publish` has put packed images."


def main(
    recipe: Annotated[str, typer.Argument(help=RECIPE)],
    data: Annotated[str, typer.Option(help=DATA)] = "demo",
    validation: Annotated[
        str | None, typer.Option(help="Folder of held-out images; default: split from --data.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The run's name; default: recipe and a hash of all settings.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of the recipe's settings.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="One setting; repeatable.")
    ] = None,
    init: Annotated[str | None, typer.Option(help=INIT)] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Length of the run; same as --set steps=N.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="How to run, such as evaluate_every=200; repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, batches and all other random numbers.")] = 0,
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16, fp16 or fp64.")] = "auto",
    compile_: Annotated[
        bool, typer.Option("--compile", help="Compile the networks: slower start, faster steps.")
    ] = False,
    workers: Annotated[str, typer.Option(metavar="N|LEAST:MOST", help=WORKERS)] = "1",
    gpus_per_worker: Annotated[
        float | None, typer.Option(min=0, help="Fractions share a GPU. Default: 1 if there.")
    ] = None,
    cpus_per_worker: Annotated[float | None, typer.Option(min=0.1, help="Default: an equal share.")] = None,
    max_failures: Annotated[int, typer.Option(min=0, help="Restarts after a worker or node is lost.")] = 3,
    address: Annotated[
        str | None, typer.Option(help="Of a running Ray; default: RAY_ADDRESS, else started here.")
    ] = None,
    local: Annotated[bool, typer.Option("--local", help=PLAIN)] = False,
    runs: Annotated[Path, typer.Option(help="Folder that holds all runs.")] = Path("runs"),
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow server; default: MLFLOW_TRACKING_URI, else SQLite.")
    ] = None,
    experiment: Annotated[str | None, typer.Option(help="MLflow experiment; default: as before, else sisr.")] = None,
    require_tracking: Annotated[bool, typer.Option(help="Fail at once if MLflow does not answer.")] = False,
    max_bad: Annotated[
        float, typer.Option(min=0, max=1, help="Refused image files, as a fraction, that stop it.")
    ] = 0.01,
    allow_changes: Annotated[bool, typer.Option(help="Go on with other settings or images than before.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Check everything, print the run, train nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train RECIPE on images."""
    from sisr import recipes

    recipes.find(recipe)  # a mistake is answered before torch and Ray are imported

    from functools import partial

    from sisr.cluster.train import Scaling, on_ray
    from sisr.config.settings import build, parse_overrides, read_yaml
    from sisr.driver.run import execute, hosts
    from sisr.driver.run.workers import parse
    from sisr.errors import ConfigError
    from sisr.terminal.console import out, print_json
    from sisr.training.run import Options

    shared_by = parse(workers)
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
        workers=shared_by,
        allow_changes=allow_changes,
        init=init,
    )
    if dry_run:
        run, folder, images = execute.prepare(order)
        print_json({"run": run.model_dump(), "folder": str(folder.path), "data": images.facts})
        return
    if local:
        useless = {"--gpus-per-worker": gpus_per_worker, "--cpus-per-worker": cpus_per_worker, "--address": address}
        if given := [flag for flag, value in useless.items() if value is not None]:
            raise ConfigError(f"{given[0]} has no effect with --local, which uses no Ray: leave one of them out")
        if shared_by.elastic:
            raise ConfigError(f"--workers {workers} needs Ray, which --local leaves out: name one number of workers")
        host = hosts.in_process if shared_by.most == 1 else partial(hosts.in_processes, shared_by.most)
    else:
        scaling = Scaling(
            workers=shared_by,
            gpus_per_worker=gpus_per_worker,
            cpus_per_worker=cpus_per_worker,
            max_failures=max_failures,
            address=address,
        )
        host = partial(on_ray, scaling)
    tracking = execute.Tracking(uri=tracking_uri, experiment=experiment, required=require_tracking)
    status = execute.execute(order, tracking, host)
    if json:
        print_json(status)
    else:
        out.print(execute.summary(status), markup=False)


if __name__ == "__main__":
    from sisr.terminal.cli import run

    run(main)
