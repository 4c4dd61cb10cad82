"""Train one recipe on images; the same command goes on after any interruption.

Writes the run's folder (checkpoints, samples, metrics, the final model) under --runs and follows it in MLflow.
Exit codes: 0 finished, 2 a wrong option, 3 unusable images, 5 diverged, 6 the run is held by another process, 73 the
disk can't be written, 74 object storage can't be used, 75 stopped and resumable.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sisr import recipes
from sisr.cluster import early
from sisr.config.settings import build, parse_overrides
from sisr.disk.run_folder import RunFolder, check_name
from sisr.driver import next_steps
from sisr.driver.run import again
from sisr.driver.run.workers import check_batch, parse
from sisr.errors import ConfigError
from sisr.pipelines._completion import precisions, preset_names, run_names
from sisr.pipelines._options import RUNS, TRACKING_URI, TRAINING_IMAGES, VALIDATION, Json, folder_of, inputs_of
from sisr.storage.address import runs_folder
from sisr.terminal import cli
from sisr.terminal.console import note, print_json, write
from sisr.training.options import Options

if TYPE_CHECKING:
    from sisr.cluster.train import Scaling
    from sisr.driver.run.hosts import RunHost
    from sisr.driver.run.order import Order

RECIPE = "A recipe's name (`sisr recipes` lists them), a recipe file such as my_recipe.py, or a dotted module."
FROM = (
    "A run whose recipe, settings, options, images and first weights a new run takes; what else is given replaces them."
)
PRESET = "Settings for a machine or a kind of images (`sisr recipes NAME` lists them); repeatable, the last one wins."
MAX_BAD = "Refused image files, as a fraction, that stop it; default: 0.01."
PRECISION = "auto, fp32, bf16, fp16 or fp64; default: auto."
INIT = "Start the generator with the weights of a run, a model folder, a weights file or models:/...; random without."
INIT_PARTLY = "Take the weights of --init that fit, leave the others random, and say which."
INIT_JUDGE = "Start the judge with that of a run's newest checkpoint, or with a weights file."
WORKERS = "Processes that share each batch; 2:8 goes on with 2 when nodes vanish, and grows to 8 when they come."
PLAIN = "Plain processes instead of Ray: starts in seconds, for debugging."
NAME = "The run's name; default: recipe and a hash of its settings, the length apart."
OPTION = "How to run, such as evaluate_every=200; repeatable; `sisr options` lists all."
ADDRESS = "Of a running Ray, or local; default: RAY_ADDRESS, else that of this machine, else started here."

images = partial(typer.Option, rich_help_panel="Images")
learned = partial(typer.Option, rich_help_panel="What is learned")
executed = partial(typer.Option, rich_help_panel="How it is run")
tracked = partial(typer.Option, rich_help_panel="Where it is kept")


def main(
    recipe: Annotated[str | None, typer.Argument(help=RECIPE, autocompletion=recipes.names)] = None,
    data: Annotated[str | None, images(help=f"{TRAINING_IMAGES} Default: demo.")] = None,
    validation: Annotated[list[str] | None, images(metavar="[NAME=]PATH", help=VALIDATION)] = None,
    max_bad: Annotated[float | None, images(min=0, max=1, help=MAX_BAD)] = None,
    from_: Annotated[str | None, learned("--from", metavar="RUN", help=FROM, autocompletion=run_names)] = None,
    preset: Annotated[list[str] | None, learned(metavar="NAME", help=PRESET, autocompletion=preset_names)] = None,
    config: Annotated[Path | None, learned(help="YAML file of the recipe's settings, or a run's run.json.")] = None,
    set_: Annotated[list[str] | None, learned("--set", metavar="NAME=VALUE", help="One setting; repeatable.")] = None,
    steps: Annotated[int | None, learned(min=1, help="Length of the run; same as --set steps=N.")] = None,
    seed: Annotated[int | None, learned(min=0, help="Of weights, batches and all else that is random; 0.")] = None,
    init: Annotated[str | None, learned(help=INIT)] = None,
    init_partly: Annotated[bool, learned("--init-partly", help=INIT_PARTLY)] = False,
    init_judge: Annotated[str | None, learned(help=INIT_JUDGE)] = None,
    option: Annotated[list[str] | None, executed("--option", metavar="NAME=VALUE", help=OPTION)] = None,
    precision: Annotated[str | None, executed(help=PRECISION, autocompletion=precisions)] = None,
    compile_: Annotated[bool, executed("--compile", help="Compile the networks: later start, faster steps.")] = False,
    workers: Annotated[str, executed(metavar="N|LEAST:MOST", help=WORKERS)] = "1",
    gpus_per_worker: Annotated[float | None, executed(min=0, help="Fractions share one. Default: 1 if there.")] = None,
    cpus_per_worker: Annotated[float | None, executed(min=0.1, help="Default: an equal part.")] = None,
    max_failures: Annotated[int, executed(min=0, help="Restarts after a worker or node is lost.")] = 3,
    address: Annotated[str | None, executed(help=ADDRESS)] = None,
    local: Annotated[bool, executed("--local", help=PLAIN)] = False,
    name: Annotated[str | None, tracked(help=NAME)] = None,
    runs: Annotated[Path, tracked(help=RUNS, parser=runs_folder, metavar="FOLDER")] = Path("runs"),
    tracking_uri: Annotated[str | None, tracked(help=TRACKING_URI)] = None,
    experiment: Annotated[str | None, tracked(help="MLflow experiment; default: as before, else sisr.")] = None,
    require_tracking: Annotated[bool, tracked(help="Fail at once if MLflow does not answer.")] = False,
    allow_changes: Annotated[bool, tracked(help="Go on with other settings or images than before.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Check everything, print the run, train nothing.")] = False,
    json: Json = False,
) -> dict[str, Any]:
    """Train RECIPE on images."""
    # What can be answered before torch and Ray are imported.
    before = again.read(folder_of("run", from_, runs, again.RECORD) / again.RECORD) if from_ else None
    named = again.recipe_named(recipe, before)
    source = recipes.find(named) if before is None else again.recipe_of(before, recipe)
    used = inputs_of(data, validation, init, init_partly, init_judge, before)
    if name:
        RunFolder(runs / check_name(name)).check_free()
    on_line = parse_overrides(set_ or []) | ({"steps": steps} if steps else {})
    flags = {"seed": seed, "precision": precision, "compile": compile_ or None, "max_bad": max_bad}
    values, chosen = again.together(before, source, preset or [], config, on_line)
    chosen |= {flag: value for flag, value in flags.items() if value is not None}
    chosen |= parse_overrides(option or [], "--option")
    options, number = build(Options, chosen, source="--option"), parse(workers)
    if settings := recipes.check_settings(source, values):
        check_batch(settings.batch_size, number, options.accumulate)
    note(f"{source.name}: importing torch{'' if local else ' and Ray'}, reading the images")
    from sisr.data.sources.catalogue import check_source  # numpy comes with it

    check_source(used.source, used.validation)
    if not local and not dry_run:
        early.begin(address)

    from sisr.cluster.train import Scaling
    from sisr.driver.run import execute

    scaling = Scaling(
        workers=number,
        gpus_per_worker=gpus_per_worker,
        cpus_per_worker=cpus_per_worker,
        max_failures=max_failures,
        address=address,
    )
    host = _host(scaling, local)
    order = execute.Order(
        recipe=source,
        values=values,
        options=options,
        data=used.source,
        validation=used.validation,
        validation_sets=used.validation_sets,
        name=name,
        runs=runs,
        workers=scaling.workers,
        allow_changes=allow_changes,
        first=used.first,
    )
    if dry_run:
        return _checked(order, scaling, local)
    tracking = execute.Tracking(uri=tracking_uri, experiment=experiment, required=require_tracking)
    status = execute.execute(order, tracking, host)
    if json:
        print_json(status)
    else:
        write(execute.summary(status))
        next_steps.show(next_steps.after_run(Path(status["folder"])))
    return status


def _checked(order: "Order", scaling: "Scaling", local: bool) -> dict[str, Any]:
    """Show and return the run that would be trained and what it takes here, after every check; nothing is fetched."""
    from sisr.cluster.connection import alone
    from sisr.driver.run import dry_run, execute

    here = local or alone(scaling.address)
    if here and not local:  # plain processes may share a CPU
        dry_run.check_machine(scaling.workers, scaling.cpus_per_worker, scaling.gpus_per_worker)
    run, folder, opened = execute.prepare(order, fetch=False)
    found = {"run": run.model_dump(), "folder": str(folder.path), "data": opened.facts}
    checked = found | dry_run.takes(run, scaling.workers.least, scaling.gpus_per_worker, here=here)
    dry_run.show(checked)
    return checked


def _host(scaling: "Scaling", local: bool) -> "RunHost":
    """Return what executes the run: plain processes, or Ray's workers."""
    from sisr.driver.run import hosts

    if not local:
        from sisr.cluster.train import on_ray

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
