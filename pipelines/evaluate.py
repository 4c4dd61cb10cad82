"""Measure models on an image folder under a named protocol: PSNR, SSIM and a perceptual distance.

HR is what is in the folder; LR is made from it as the protocol says. Every result carries the protocol in one line.
Exit codes: 0 done, 2 a wrong option, 3 unusable images, 4 no such model, 69 MLflow does not answer.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from sisr.pipelines import _models

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sisr.data.reading import ImageFile
    from sisr.metrics.perceptual import Distance
    from sisr.metrics.protocol import Protocol
    from sisr.models import Model
    from sisr.training.evaluate import Report

SCALE = "HR side / LR side; default: the models' own, else 4."
PROTOCOL = "rgb8: LR and SR are 8-bit RGB. y: luma alone, LR kept in double."
PERCEPTUAL = (
    "auto, none, lpips, vgg, swd, or a VGG-19 weights file; less is better. auto: the first whose weights are here."
)
DATA = "Folder of HR images (all of it), one image file, or demo, celeba:PATH, div2k:PATH (their held-out images)."


def main(
    model: Annotated[list[str], typer.Argument(help=f"One or more. {_models.HELP}")],
    data: Annotated[str, typer.Option(help=DATA)] = "demo",
    scale: Annotated[int | None, typer.Option(min=1, help=SCALE)] = None,
    protocol: Annotated[str, typer.Option(help=PROTOCOL)] = "rgb8",
    perceptual: Annotated[str, typer.Option(help=PERCEPTUAL)] = "auto",
    images: Annotated[bool, typer.Option("--images", help="Show every image in the table, too.")] = False,
    recipe: Annotated[list[str] | None, typer.Option(help=_models.RECIPE)] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    runs: Annotated[Path, typer.Option(help="Folder that holds all runs.")] = Path("runs"),
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure models on images."""
    from sisr import console
    from sisr.metrics import protocol as protocols

    rule = protocols.protocol(protocol)
    distance = _distance(perceptual, rule, device)
    files = _find(data)
    opened = _open_all(model, runs, scale, device, recipe or [])
    with console.progress("evaluating", len(files) * len(opened)) as advance:
        reports = [_measure(m, _decoded(files, advance), rule, distance) for m in opened]
    if json:
        found = [report.to_json() for report in reports]
        console.print_json(found[0] if len(found) == 1 else {"protocol": reports[0].protocol, "models": found})
        return
    _print(reports, images)


def _find(data: str) -> "list[ImageFile]":
    from sisr.data.reading import ImageFile
    from sisr.data.sources import find_images, open_source

    path = Path(data)
    if path.is_file():
        return [ImageFile(path.resolve(), path.name)]
    return find_images(path) if data and path.is_dir() else open_source(data).validation


def _open_all(specs: list[str], runs: Path, scale: int | None, device: str, recipes: list[str]) -> "list[Model]":
    """Return the models, all of one scale: that of the first which is not bicubic, where none is asked for."""
    from sisr.errors import ConfigError

    learned = {spec: _models.open_model(spec, runs, scale, device, recipes) for spec in specs if spec != "bicubic"}
    scales = {spec: model.scale for spec, model in learned.items()}
    if len(set(scales.values())) > 1:
        listed = ", ".join(f"{spec} {s}x" for spec, s in scales.items())
        raise ConfigError(f"models of different scales can't be compared on the same LR: {listed}")
    common = scale or next(iter(scales.values()), None)
    return [learned[s] if s in learned else _models.open_model(s, runs, common, device) for s in specs]


def _decoded(files: "list[ImageFile]", advance: Any) -> "Iterator[tuple[str, NDArray[np.uint8]]]":
    """Yield names and pixels: (h, w, 3), or (h, w) where the file is grey.

    A bad file stops it: no mean silently leaves one out.
    """
    from sisr.data.images import RefusedError, decode_with_alpha, flatten

    for file in files:
        if file.refused:
            raise RefusedError(*file.refused, file.path)
        picture = decode_with_alpha(file.path)
        yield file.name, picture.pixels[..., 0] if picture.grey and picture.alpha is None else flatten(picture)
        advance(note=file.name)


def _distance(wanted: str, rule: "Protocol", device: str) -> "Distance | None":
    """Return the perceptual distance that is asked for; `auto` is none where the protocol has no RGB images."""
    if wanted == "auto" and rule.luma_first:
        return None
    from sisr.metrics import perceptual

    offered = perceptual.offered(wanted)
    return perceptual.build(offered[0], _models.chosen_device(device)) if offered else None


def _measure(
    model: "Model", images: "Iterator[tuple[str, NDArray[np.uint8]]]", rule: "Protocol", distance: "Distance | None"
) -> "Report":
    from sisr.training.evaluate import evaluate_model

    # MATLAB's own bicubic rounds between the two axes; the network of the same name can't.
    upscaler = "bicubic" if model.name == "bicubic" else model.generator
    return evaluate_model(upscaler, images, model.scale, rule, name=model.name, distance=distance)  # type: ignore[arg-type]


def _print(reports: "list[Report]", each_image: bool) -> None:
    from sisr import console

    metrics = list(reports[0].mean)
    if each_image:
        for report in reports:
            rows = [[i.name, *(_written(m, i.values.get(m)) for m in metrics)] for i in report.images]
            console.table(report.model, ["image", *metrics], rows)
    count = len(reports[0].images)
    title = f"mean of {count} image{'s' if count > 1 else ''}"
    console.table(title, ["model", *metrics], [[r.model, *(_written(m, r.mean[m]) for m in metrics)] for r in reports])
    console.out.print(f"protocol: {reports[0].protocol}", markup=False)


def _written(metric: str, value: float | None) -> str:
    if value is None:  # of all images together only
        return ""
    return f"{value:.3f} dB" if metric.startswith("psnr") else f"{value:.4f}"


if __name__ == "__main__":
    from sisr.cli import run

    run(main)
