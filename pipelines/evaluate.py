"""Measure models on an image folder under a named protocol: PSNR, SSIM and a perceptual distance.

HR is what is in the folder; LR is made from it as the protocol says. Every result carries the protocol in one line.
Exit codes: 0 done, 2 a wrong option, 3 unusable images, 4 no such model, 69 MLflow does not answer.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from sisr.pipelines import _measuring, _models

if TYPE_CHECKING:
    from sisr.evaluation.measure import Report


def main(
    model: Annotated[list[str], typer.Argument(help=f"One or more. {_models.HELP}")],
    data: Annotated[str, typer.Option(help=_measuring.DATA)] = "demo",
    scale: Annotated[int | None, typer.Option(min=1, help=_measuring.SCALE)] = None,
    protocol: Annotated[str, typer.Option(help=_measuring.PROTOCOL)] = "rgb8",
    perceptual: Annotated[str, typer.Option(help=_measuring.PERCEPTUAL)] = "auto",
    images: Annotated[bool, typer.Option("--images", help="Show every image in the table, too.")] = False,
    recipe: Annotated[list[str] | None, typer.Option(help=_models.RECIPE)] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    runs: Annotated[Path, typer.Option(help="Folder that holds all runs.")] = Path("runs"),
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure models on images."""
    from sisr.metrics import protocol as protocols
    from sisr.terminal import console

    rule = protocols.protocol(protocol)
    distance = _measuring.distance(perceptual, rule, device)
    files = _measuring.find(data)
    opened = _measuring.open_all(model, runs, scale, device, recipe or [])
    reports = _measuring.measure(opened, files, rule, distance=distance)
    if json:
        found = [report.to_json() for report in reports]
        console.print_json(found[0] if len(found) == 1 else {"protocol": reports[0].protocol, "models": found})
        return
    _print(reports, images)


def _print(reports: "list[Report]", each_image: bool) -> None:
    from sisr.terminal import console

    metrics = list(reports[0].mean)
    if each_image:
        for report in reports:
            rows = [[i.name, *(_measuring.written(m, i.values.get(m)) for m in metrics)] for i in report.images]
            console.table(report.model, ["image", *metrics], rows)
    count = len(reports[0].images)
    title = f"mean of {count} image{'s' if count > 1 else ''}"
    console.table(
        title, ["model", *metrics], [[r.model, *(_measuring.written(m, r.mean[m]) for m in metrics)] for r in reports]
    )
    console.out.print(f"protocol: {reports[0].protocol}", markup=False)


if __name__ == "__main__":
    from sisr.terminal.cli import run

    run(main)
