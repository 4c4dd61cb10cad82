"""Search, train, compare with bicubic, upscale a photo: the whole story on bundled photographs, in minutes.

The images are scikit-image's; astronaut, chelsea and coffee are held out and never trained on. Running it again shows
the results again; removing the folders of the sweep and the run starts anew.
"""

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sisr.metrics.catalogue import ALWAYS
from sisr.pipelines._options import Json, Runs, TrackingUri
from sisr.terminal import cli
from sisr.terminal.console import err, out, print_json, table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sisr.driver.run.execute import Tracking
    from sisr.evaluation.measure import Measurement
    from sisr.models.model import Model

NAME = "demo"
SWEEP = "demo-sweep"
# Small crops and many steps suit few photographs; no blur, because the comparison is with plain bicubic lr.
SETTINGS = {"hr_crop": 96, "batch_size": 8, "blur_sigma_max": 0.0, "turn": True, "warmup_steps": 10}
# The recipe's own space is wider than a demo has time for; so short trials favour small rates beyond these.
SPACE = ("learning_rate=loguniform(5e-4, 5e-3)", "beta1=", "beta2=", "schedule=", "zero_last=")
TRIALS, TRIAL_STEPS = 5, 90
PHOTO = "coffee.png"


def main(
    steps: Annotated[int, typer.Option(min=1, help="Length of the training.")] = 900,
    trial_steps: Annotated[int, typer.Option(min=9, help="Length of a trial of the search.")] = TRIAL_STEPS,
    workers: Annotated[int, typer.Option(min=1, help="Ray Train workers.")] = 1,
    runs: Runs = Path("runs"),
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Search, train on bundled photographs, compare with bicubic, upscale a photo."""
    from sisr.cluster.train import Scaling, on_ray
    from sisr.data.images import decode
    from sisr.data.sources.catalogue import open_source
    from sisr.driver import models
    from sisr.driver.run import execute
    from sisr.driver.run.workers import exactly
    from sisr.evaluation.measure import evaluate_models
    from sisr.metrics.protocol import protocol
    from sisr.training.run import Options

    start = time.monotonic()
    tracking = execute.Tracking(uri=tracking_uri)
    err.print(f"1/4  searching for a learning rate: {TRIALS} short trials of a pixelshuffle network, the best go on")
    best = _search(trial_steps, runs, tracking)
    order = execute.Order(
        recipe="pixelshuffle",
        values={**SETTINGS, **best, "steps": steps},
        options=Options(evaluate_every=300, log_every=20),
        name=NAME,
        runs=runs,
        workers=exactly(workers),
    )
    err.print("2/4  training it with what was found, by Ray Train on 10 photographs (about three minutes on two cores)")
    status = execute.execute(order, tracking, partial(on_ray, Scaling(workers=exactly(workers))))
    err.print("3/4  comparing with bicubic on three photographs that were never trained on")
    model = models.open_model(NAME, runs, None)
    images = {file.name: decode(file.path) for file in open_source("demo").validation}
    reports = evaluate_models(
        [("bicubic", "bicubic"), (NAME, model.generator)], images.items(), model.scale, protocol("rgb8")
    )
    err.print("4/4  upscaling a photograph")
    picture = _upscale(model, images[PHOTO], runs / NAME / "upscaled")
    result = {**status, "found": best, "seconds": time.monotonic() - start, "picture": str(picture)}
    result["reports"] = [report.to_json() for report in reports]
    if json:
        print_json(result)
    else:
        _show(reports, result)


def _search(steps: int, runs: Path, tracking: "Tracking") -> dict[str, Any]:
    """Return the settings of the best trial."""
    from sisr.cluster.tune import RayTune
    from sisr.driver.sweep.execute import execute, nothing_found
    from sisr.driver.sweep.planning import plan_of

    plan, space = plan_of(
        "pixelshuffle",
        name=SWEEP,
        space=SPACE,
        settings=tuple(f"{name}={str(value).lower()}" for name, value in SETTINGS.items()),
        changes={"trials": TRIALS, "steps": steps, "search": "random"},
        scheduler_options={"rungs": (steps // 3,)},
    )
    sweep = execute(plan, space, RayTune(), tracking, runs=runs)
    found = sweep.best()
    if found is None:
        raise nothing_found(sweep, runs / SWEEP)
    return found.params


def _upscale(model: "Model", photo: "NDArray[np.uint8]", folder: Path) -> Path:
    """Upscale a held-out photograph made small; keep input pixels, bicubic and the model's output side by side."""
    from PIL import Image

    from sisr.data.bicubic import resize
    from sisr.inference.enlarge import enlarge

    folder.mkdir(parents=True, exist_ok=True)
    small = folder / f"small_{PHOTO}"
    Image.fromarray(resize(photo, 1 / model.scale)).save(small)
    compared = folder / f"compared_{PHOTO}"
    enlarge(model.generator, small, folder / PHOTO, compared)
    return compared


def _show(reports: "list[Measurement]", result: dict[str, Any]) -> None:
    bicubic, ours = (report.mean for report in reports)
    pairs = [(a.name, a.values, b.values) for a, b in zip(*(report.images for report in reports), strict=True)]
    rows = [
        [name, *(m.text(values[m.name]) for m in ALWAYS for values in (old, new))]
        for name, old, new in (*pairs, ("mean", bicubic, ours))
    ]
    columns = ["held-out photograph", *(f"{who} {m.title}" for m in ALWAYS for who in ("bicubic", "trained"))]
    table(reports[0].protocol, columns, rows)
    gains = (f"{m.text(ours[m.name] - bicubic[m.name], signed=True)} {m.title}" for m in ALWAYS)
    out.print(f"the trained model is {' and '.join(gains)} against bicubic", markup=False)
    out.print(f"side by side: {result['picture']}", markup=False)
    out.print(f"the search:   {Path(result['folder']).parent / SWEEP}/results/index.html", markup=False)
    out.print(f"over time:    {result['folder']}/samples/val", markup=False)
    out.print("MLflow page:  make ui", markup=False)
    out.print(f"your own:     sisr upscale photo.jpg --model {NAME}", markup=False)


if __name__ == "__main__":
    cli.run(main)
