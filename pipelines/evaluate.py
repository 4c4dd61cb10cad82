"""Measure models on an image folder under a named protocol: PSNR and SSIM, per image and on average.

HR is what is in the folder; LR is made from it as the protocol says. Every result carries the protocol in one line.
Exit codes: 0 done, 2 a wrong option, 3 unusable images, 4 no such model, 69 MLflow does not answer.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from sisr.pipelines import _measuring, _models

if TYPE_CHECKING:
    from sisr.models import Model
    from sisr.training.evaluate import Report

SCALE = "HR side / LR side; default: the models' own, else 4."


def main(
    model: Annotated[list[str], typer.Argument(help=f"One or more. {_models.HELP}")],
    data: Annotated[str, typer.Option(help=_measuring.DATA)] = "demo",
    scale: Annotated[int | None, typer.Option(min=1, help=SCALE)] = None,
    protocol: Annotated[str, typer.Option(help=_measuring.PROTOCOL)] = "rgb8",
    images: Annotated[bool, typer.Option("--images", help="Show every image in the table, too.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    runs: Annotated[Path, typer.Option(help="Folder that holds all runs.")] = Path("runs"),
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure models on images."""
    from sisr import console
    from sisr.metrics import protocol as protocols

    rule = protocols.protocol(protocol)
    files = _measuring.find(data)
    opened = _open_all(model, runs, scale, device)
    with console.progress("evaluating", len(files) * len(opened)) as advance:
        reports = [_measuring.measure(m, _measuring.decoded(files, advance), rule) for m in opened]
    if json:
        found = [report.to_json() for report in reports]
        console.print_json(found[0] if len(found) == 1 else {"protocol": reports[0].protocol, "models": found})
        return
    _print(reports, images)


def _open_all(specs: list[str], runs: Path, scale: int | None, device: str) -> "list[Model]":
    """Return the models, all of one scale: that of the first which is not bicubic, where none is asked for."""
    from sisr.errors import ConfigError

    learned = {spec: _models.open_model(spec, runs, scale, device) for spec in specs if spec != "bicubic"}
    scales = {spec: model.scale for spec, model in learned.items()}
    if len(set(scales.values())) > 1:
        listed = ", ".join(f"{spec} {s}x" for spec, s in scales.items())
        raise ConfigError(f"models of different scales can't be compared on the same LR: {listed}")
    common = scale or next(iter(scales.values()), None)
    return [learned[s] if s in learned else _models.open_model(s, runs, common, device) for s in specs]


def _print(reports: "list[Report]", each_image: bool) -> None:
    from sisr import console

    metrics = list(reports[0].mean)
    if each_image:
        for report in reports:
            rows = [[i.name, *(_written(m, i.values[m]) for m in metrics)] for i in report.images]
            console.table(report.model, ["image", *metrics], rows)
    count = len(reports[0].images)
    title = f"mean of {count} image{'s' if count > 1 else ''}"
    console.table(title, ["model", *metrics], [[r.model, *(_written(m, r.mean[m]) for m in metrics)] for r in reports])
    console.out.print(f"protocol: {reports[0].protocol}", markup=False)


def _written(metric: str, value: float) -> str:
    return f"{value:.3f} dB" if metric.startswith("psnr") else f"{value:.4f}"


if __name__ == "__main__":
    from sisr.cli import run

    run(main)
