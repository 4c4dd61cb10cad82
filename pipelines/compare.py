"""Compare models on the same images: who is better, by how much beyond chance, at what cost, and where one sees it.

Values are those of `sisr evaluate`. Differences are taken image by image against a reference, with a 95 % interval by
bootstrap over the images: "better" and "worse" mean that it does not reach 0. The page, a single HTML file in
runs/compare-..., shows the places where the models differ most, with a slider between any two of them. bicubic is
always measured besides. With --experiment, models are the best finished runs of an MLflow experiment.
Exit codes: 0 done, 2 a wrong option, 3 unusable images, 4 no such model, 69 MLflow does not answer, 73 can't write.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from sisr.pipelines import _compared, _measuring, _models

from sisr.metrics.catalogue import PSNR_Y

if TYPE_CHECKING:
    from sisr.models.model import Model

AGAINST = "The model that the others are compared with, as named here, or bicubic. Default: the first."
EXPERIMENT = "MLflow's experiment: its best runs are compared, and the comparison is logged there. Default: sisr."
TOP = "How many of the experiment's best runs; default: 5 with --experiment."
METRIC = "By which the best runs are chosen."
MODE = "Whether more (max) or less (min) of it is better."
TRACKING = "MLflow's server or database; default: MLFLOW_TRACKING_URI, else a file in --runs."


def main(
    model: Annotated[list[str] | None, typer.Argument(help=f"Two or more. {_models.HELP}")] = None,
    data: Annotated[str, typer.Option(help=_measuring.DATA)] = "demo",
    scale: Annotated[int | None, typer.Option(min=1, help=_measuring.SCALE)] = None,
    protocol: Annotated[str, typer.Option(help=_measuring.PROTOCOL)] = "rgb8",
    perceptual: Annotated[str, typer.Option(help=_measuring.PERCEPTUAL)] = "auto",
    against: Annotated[str | None, typer.Option(help=AGAINST)] = None,
    experiment: Annotated[str | None, typer.Option(help=EXPERIMENT)] = None,
    top: Annotated[int | None, typer.Option(min=1, help=TOP)] = None,
    metric: Annotated[str, typer.Option(help=METRIC)] = f"final/{PSNR_Y.name}",
    mode: Annotated[str, typer.Option(help=MODE)] = "max",
    recipe: Annotated[list[str] | None, typer.Option(help=_models.RECIPE)] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    runs: Annotated[Path, typer.Option(help="Folder that holds all runs.")] = Path("runs"),
    tracking_uri: Annotated[str | None, typer.Option(help=TRACKING)] = None,
    log: Annotated[bool, typer.Option(help="Log the comparison to MLflow as a run of its own.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compare models."""
    from sisr.metrics import protocol as protocols
    from sisr.terminal import console

    rule = protocols.protocol(protocol)
    named = {spec: spec for spec in _distinct(model or [])}
    if experiment and (top or not model):
        named |= _best(experiment, metric, mode, top or 5, tracking_uri, runs)
    elif top:
        raise _wrong("--top says how many runs of an experiment: name it with --experiment")
    against = _reference(list(named), against)
    files = _compared.at_least_two(_measuring.find(data))
    measures = _compared.Measures(rule, _measuring.distance(perceptual, rule, device))
    opened = _open(named, runs, scale, device, recipe or [])
    result = _compared.compare(opened, len(named), files, measures, against, data, runs)
    logged = _compared.log(result, tracking_uri, experiment) if log else None
    if json:
        console.print_json({**result.content, "folder": str(result.files.folder), "logged": logged == ""})
    else:
        _compared.show(result)
    if logged:
        console.err.print(logged, markup=False)


def _distinct(specs: Sequence[str]) -> list[str]:
    twice = sorted({spec for spec in specs if specs.count(spec) > 1})
    if twice:
        raise _wrong(f"{', '.join(twice)}: named twice; name each model once")
    return list(specs)


def _best(experiment: str, metric: str, mode: str, top: int, uri: str | None, runs: Path) -> dict[str, str]:
    """Return the best runs of an experiment: what names each model, by the run's name."""
    from sisr.tracking.search import best_runs

    if mode not in ("max", "min"):
        raise _wrong(f"--mode {mode}: wanted max or min")
    found = best_runs(experiment, metric, mode, top, tracking_uri=uri, runs=runs)  # type: ignore[arg-type]
    return {run.name: run.model for run in found}


def _reference(names: list[str], against: str | None) -> str:
    """Return the model that the others are compared with.

    Raises:
        ConfigError: It is none of them, or there are too few.
    """
    from sisr.config.suggest import did_you_mean

    choices = [*names, *([] if "bicubic" in names else ["bicubic"])]
    if against is not None and against not in choices:
        hint = did_you_mean(against, choices) or f"there are {', '.join(choices)}"
        raise _wrong(f"--against {against} is none of the models compared; {hint}")
    compared = {*names, *([against] if against else [])}
    if len(compared) < 2:
        found = f"only {names[0]}" if names else "none"
        raise _wrong(f"a comparison wants two models or more, got {found}: name another, such as bicubic")
    return against or names[0]


def _open(named: dict[str, str], runs: Path, scale: int | None, device: str, recipes: Sequence[str]) -> "list[Model]":
    """Return the models under the names that they have in the comparison; bicubic is always among them."""
    specs = [*named.values(), *([] if "bicubic" in named.values() else ["bicubic"])]
    opened = _measuring.open_all(specs, runs, scale, device, recipes)
    names = [*named, *(["bicubic"] if len(specs) > len(named) else [])]
    return [replace(model, name=name) for name, model in zip(names, opened, strict=True)]


def _wrong(message: str) -> Any:
    from sisr.errors import ConfigError

    return ConfigError(message)


if __name__ == "__main__":
    from sisr.terminal.cli import run

    run(main)
