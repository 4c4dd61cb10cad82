"""Measure models on an image folder under a named protocol: PSNR, SSIM and a perceptual distance.

HR is what is in the folder; LR is made from it as the protocol says, or given: --data pairs:HR_FOLDER,LR_FOLDER. With
--sr, what another program has made is measured, too. Every result carries the protocol, in words, or in one line in
JSON, with a number format other than float32, --self-ensemble and --output-scale where they are used. Images are
measured side by side, one on each core, four at most. With bicubic among the models, each has a score: how many
doublings better it is, in fidelity and perception together.
Exit codes: 0 done, 2 a wrong option, 3 unusable images, 4 no such model, 69 MLflow does not answer.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sisr.driver import models, next_steps
from sisr.errors import ConfigError
from sisr.metrics.catalogue import METRICS
from sisr.metrics.protocol import in_words
from sisr.pipelines._completion import model_names
from sisr.pipelines._options import (
    Device,
    HrImages,
    InferencePrecision,
    Json,
    Metrics,
    OutputScale,
    Perceptual,
    ProtocolName,
    Recipes,
    Runs,
    Scale,
    SelfEnsemble,
    say_if_demo,
)
from sisr.terminal import cli, console

if TYPE_CHECKING:
    from sisr.evaluation.measure import Measurement


SR = "Folder of SR that another program has made, one file for each image of --data; repeatable."


def main(
    model: Annotated[
        list[str] | None, typer.Argument(help=f"One or more. {models.HELP}", autocompletion=model_names)
    ] = None,
    data: HrImages = "demo",
    scale: Scale = None,
    protocol: ProtocolName = "rgb8",
    perceptual: Perceptual = "auto",
    metrics: Metrics = "",
    sr: Annotated[list[Path] | None, typer.Option(help=SR)] = None,
    images: Annotated[bool, typer.Option("--images", help="Show every image in the table, too.")] = False,
    recipe: Recipes = None,
    precision: InferencePrecision = "fp32",
    self_ensemble: SelfEnsemble = False,
    output_scale: OutputScale = None,
    device: Device = "auto",
    runs: Runs = Path("runs"),
    json: Json = False,
) -> Any:  # a list of Measurement, whose room imports torch
    """Measure models on images."""
    from sisr.driver import promising, trained_images
    from sisr.evaluation.compare import measure, measures, unmeasured
    from sisr.evaluation.finished import find_all
    from sisr.evaluation.images import find_unseen, given_scale, warnings
    from sisr.evaluation.ranking import forgiven

    specs = model or []
    if not specs and not sr:
        raise ConfigError("name what to measure: a model, bicubic, or --sr FOLDER with what another program has made")
    say_if_demo(data)
    by = measures(protocol, perceptual, models.chosen_device(device), metrics)
    learned = trained_images.of_models(specs, runs)
    files, _ = find_unseen(data, learned.values())
    usual = given_scale(files) or 4
    opened = models.open_all(specs, runs, None if output_scale else scale, device, recipe or [], usual)
    opened, manner = models.in_manner(opened, files[0].path, precision, self_ensemble, output_scale)
    scale = opened[0].scale if opened else scale or usual
    finished, surplus = find_all(sr or [], files, scale)
    seen = warnings(learned, files)
    for line in (*seen, *surplus, *by.missing):
        console.note(f"warning: {line}")
    at_once = models.side_by_side(opened, files)
    measured, _ = measure(opened, files, by, scale=scale, finished=finished, at_once=at_once)
    for line in (*unmeasured(measured, by), *forgiven(measured)):
        console.note(f"warning: {line}")
    of_models = {each.name for each in opened}
    measured = [replace(m, protocol=m.protocol + manner) if m.model in of_models else m for m in measured]
    if json:
        found = [each.to_json() for each in measured]
        console.print_json(found[0] if len(found) == 1 else {"protocol": measured[0].protocol, "models": found})
    else:
        _print(measured, images)
        if not recipe:  # whose file the next command would have to name, too
            best = "" if seen else promising.best_candidate(opened, measured, by)
            judged = next_steps.judged_by(data, perceptual)
            next_steps.show(next_steps.after_evaluation(specs, best, judged, runs))
    return measured


def _print(measured: "list[Measurement]", each_image: bool) -> None:
    metrics = [METRICS[name] for name in measured[0].mean]
    titles = [metric.title for metric in metrics]
    for found in measured if each_image else ():
        rows = [
            [i.name, *(m.text(i.values[m.name]) if m.name in i.values else "" for m in metrics)] for i in found.images
        ]
        console.table(found.model, ["image", *titles], rows)
    count = len(measured[0].images)
    rows = [[found.model, *(metric.text(found.mean[metric.name]) for metric in metrics)] for found in measured]
    console.table(f"mean of {count} image{'s' if count > 1 else ''}", ["model", *titles], rows)
    for protocol in dict.fromkeys(found.protocol for found in measured):
        console.write(f"measured {in_words(protocol)}")


if __name__ == "__main__":
    cli.run(main)
