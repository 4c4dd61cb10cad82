"""Measure models on an image folder under a named protocol: PSNR, SSIM and a perceptual distance.

HR is what is in the folder; LR is made from it as the protocol says. Every result carries the protocol in one line.
With bicubic among the models, each has a score: how many doublings better it is, in fidelity and perception together.
Exit codes: 0 done, 2 a wrong option, 3 unusable images, 4 no such model, 69 MLflow does not answer.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sisr.driver import models
from sisr.metrics.catalogue import METRICS
from sisr.pipelines._options import Device, HrImages, Json, Perceptual, ProtocolName, Recipes, Runs, Scale
from sisr.terminal import cli, console

if TYPE_CHECKING:
    from sisr.evaluation.measure import Measurement


def main(
    model: Annotated[list[str], typer.Argument(help=f"One or more. {models.HELP}")],
    data: HrImages = "demo",
    scale: Scale = None,
    protocol: ProtocolName = "rgb8",
    perceptual: Perceptual = "auto",
    images: Annotated[bool, typer.Option("--images", help="Show every image in the table, too.")] = False,
    recipe: Recipes = None,
    device: Device = "auto",
    runs: Runs = Path("runs"),
    json: Json = False,
) -> None:
    """Measure models on images."""
    from sisr.evaluation.compare import measure, measures
    from sisr.evaluation.images import find, warnings

    by = measures(protocol, perceptual, models.chosen_device(device))
    files = find(data)
    opened = models.open_all(model, runs, scale, device, recipe or [])
    for line in warnings(models.places(model, runs), files):
        console.err.print(f"warning: {line}", markup=False)
    measured, _ = measure(opened, files, by)
    if json:
        found = [each.to_json() for each in measured]
        console.print_json(found[0] if len(found) == 1 else {"protocol": measured[0].protocol, "models": found})
    else:
        _print(measured, images)


def _print(measured: "list[Measurement]", each_image: bool) -> None:
    metrics = [METRICS[name] for name in measured[0].mean]
    titles = [metric.name for metric in metrics]
    for found in measured if each_image else ():
        rows = [
            [i.name, *(m.text(i.values[m.name]) if m.name in i.values else "" for m in metrics)] for i in found.images
        ]
        console.table(found.model, ["image", *titles], rows)
    count = len(measured[0].images)
    rows = [[found.model, *(metric.text(found.mean[metric.name]) for metric in metrics)] for found in measured]
    console.table(f"mean of {count} image{'s' if count > 1 else ''}", ["model", *titles], rows)
    console.out.print(f"protocol: {measured[0].protocol}", markup=False)


if __name__ == "__main__":
    cli.run(main)
