"""Compare models on the same images: who is better, by how much beyond chance, at what cost, and where one sees it.

Values are those of `sisr evaluate`. Differences are taken image by image against a reference, with a 95 % interval:
"better" and "worse" mean that it does not reach 0, of 6 images at least. The page, a single HTML file in
runs/compare-..., shows the places where the models differ most, with a slider between any two of them. bicubic is
always measured besides. With --experiment, models are the best finished runs of an MLflow experiment.
Exit codes: 0 done, 2 a wrong option, 3 unusable images, 4 no such model, 69 MLflow does not answer, 73 can't write.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sisr.config.wording import did_you_mean
from sisr.driver import models, next_steps
from sisr.errors import ConfigError
from sisr.metrics.catalogue import PSNR_Y, Mode, direction
from sisr.pipelines._completion import model_names
from sisr.pipelines._options import (
    Device,
    HrImages,
    Json,
    Metrics,
    Perceptual,
    ProtocolName,
    Recipes,
    Runs,
    Scale,
    TrackingUri,
    say_if_demo,
)
from sisr.terminal import cli, console

if TYPE_CHECKING:
    from sisr.models.model import Model

AGAINST = "The model that the others are compared with, as named here, or bicubic. Default: the first."
EXPERIMENT = "MLflow's experiment: its best runs are compared; the comparison goes to NAME-comparisons. Default: sisr."
PLACES = "How many places the page shows, each of another image: where the models differ most."
TOP = "How many of the experiment's best runs; default: 5 with --experiment."
METRIC = "By which the best runs are chosen."
MODE = "Whether more (max) or less (min) of it is better; default: as is known of the metric, else max."


def main(
    model: Annotated[
        list[str] | None, typer.Argument(help=f"Two or more. {models.HELP}", autocompletion=model_names)
    ] = None,
    data: HrImages = "demo",
    scale: Scale = None,
    protocol: ProtocolName = "rgb8",
    perceptual: Perceptual = "auto",
    metrics: Metrics = "",
    against: Annotated[str | None, typer.Option(help=AGAINST)] = None,
    experiment: Annotated[str | None, typer.Option(help=EXPERIMENT)] = None,
    top: Annotated[int | None, typer.Option(min=1, help=TOP)] = None,
    metric: Annotated[str, typer.Option(help=METRIC)] = f"final/{PSNR_Y.name}",
    mode: Annotated[Mode | None, typer.Option(help=MODE)] = None,
    places: Annotated[int, typer.Option(min=1, max=12, help=PLACES)] = 3,
    recipe: Recipes = None,
    device: Device = "auto",
    runs: Runs = Path("runs"),
    tracking_uri: TrackingUri = None,
    log: Annotated[bool, typer.Option(help="Log the comparison to MLflow as a run of its own.")] = True,
    json: Json = False,
) -> Any:  # a Comparison, whose room imports torch
    """Compare models."""
    from sisr.driver import comparison, promising, trained_images
    from sisr.evaluation import compare, images

    say_if_demo(data)
    by = compare.measures(protocol, perceptual, models.chosen_device(device), metrics)
    specs = model or []
    if twice := sorted({spec for spec in specs if specs.count(spec) > 1}):
        raise ConfigError(f"{', '.join(twice)}: named twice; name each model once")
    named = {spec: spec for spec in specs}
    if experiment and (top or not model):
        named |= _best(experiment, metric, mode, top or 5, tracking_uri, runs)
    elif top:
        raise ConfigError("--top says how many runs of an experiment: name it with --experiment")
    against = _reference(list(named), against)
    learned = trained_images.of_models(named.values(), runs)
    files, called = images.find_unseen(data, learned.values())
    opened = _open(named, runs, scale, device, recipe or [], images.given_scale(files) or 4)
    warnings = images.warnings(learned, files)
    result = compare.compare(opened, len(named), files, by, against, called, runs, warnings, places)
    with console.stage("logging the comparison to MLflow"):
        logged = comparison.log(result, tracking_uri, experiment) if log else None
    if json:
        console.print_json({**result.content, "folder": str(result.folder), "logged": logged == ""})
    else:
        result.show()
        best = "" if warnings else promising.best_candidate(opened, [row.measured for row in result.rows], by)
        judged = next_steps.judged_by(data, perceptual)
        next_steps.show(next_steps.after_comparison(named.get(best, ""), compare.ranked_by(by).title, judged, runs))
    if logged:
        console.note(logged)
    return result


def _best(experiment: str, metric: str, mode: Mode | None, top: int, uri: str | None, runs: Path) -> dict[str, str]:
    """Return the best runs of an experiment: what names each model, by the run's name."""
    from sisr.tracking.selection import best_runs

    found = best_runs(experiment, metric, mode or direction(metric), top, tracking_uri=uri, runs=runs)
    # The name alone means the kernel, wherever models are named.
    return {"bicubic (a run)" if run.name == "bicubic" else run.name: run.model for run in found}


def _reference(names: list[str], against: str | None) -> str:
    """Return the model that the others are compared with.

    Raises:
        ConfigError: It is none of them, or there are too few.
    """
    choices = [*names, *([] if "bicubic" in names else ["bicubic"])]
    if against is not None and against not in choices:
        hint = did_you_mean(against, choices) or f"there are {', '.join(choices)}"
        raise ConfigError(f"--against {against} is none of the models compared; {hint}")
    compared = {*names, *([against] if against else [])}
    if len(compared) < 2:
        found = f"only {names[0]}" if names else "none"
        raise ConfigError(f"a comparison needs two models or more, got {found}: name another, such as bicubic")
    return against or names[0]


def _open(
    named: dict[str, str], runs: Path, scale: int | None, device: str, recipes: Sequence[str], usual: int
) -> "list[Model]":
    """Return the models under the names that they have in the comparison; bicubic is always among them."""
    specs = [*named.values(), *([] if "bicubic" in named.values() else ["bicubic"])]
    opened = models.open_all(specs, runs, scale, device, recipes, usual)
    names = [*named, *(["bicubic"] if len(specs) > len(named) else [])]
    return [replace(model, name=name) for name, model in zip(names, opened, strict=True)]


if __name__ == "__main__":
    cli.run(main)
