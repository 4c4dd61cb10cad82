"""The whole story of a GAN on bundled photographs, in minutes on two CPU cores.

A small network learns to enlarge by pixels. A search finds how it goes on best against a judge, and it goes on, beside
a run with the recipe's own settings. All are compared with bicubic on a photograph that nothing has looked at; the best
passes the gate into the registry, and enlarges a photograph from there. Running it again shows the results again;
removing runs/demo* starts anew.
"""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sisr.driver import next_steps
from sisr.metrics.catalogue import METRICS
from sisr.metrics.protocol import in_words
from sisr.pipelines._options import Json, Runs, TrackingUri
from sisr.terminal import cli
from sisr.terminal.console import duration, err, note, print_json, table

if TYPE_CHECKING:
    from sisr.driver.demo import Found, Lengths
    from sisr.driver.run.execute import Tracking
    from sisr.driver.run.order import Order
    from sisr.evaluation.compare import Comparison

PARTS = 6


def main(
    steps: Annotated[int, typer.Option(min=1, help="Length of the training by pixels.")] = 900,
    trials: Annotated[int, typer.Option(min=1, help="Settings that the search tries.")] = 9,
    trial_steps: Annotated[int, typer.Option(min=3, help="Length of a trial; the search looks at thirds of it.")] = 180,
    runs: Runs = Path("runs"),
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Train by pixels, search, train against a judge, compare, register, upscale."""
    from sisr.driver import demo
    from sisr.driver.run.execute import Tracking
    from sisr.evaluation import page

    begun, tracking = time.monotonic(), Tracking(uri=tracking_uri)
    lengths = demo.Lengths(steps, trials, trial_steps)
    validation, test = demo.write_crops(runs)

    _say(1, "a small network learns ten photographs by their pixels")
    _train(demo.pixel_order(lengths, validation, runs), tracking)
    _say(2, f"how does it go on best against a judge? {trials} short trials; the best third goes on")
    found = _search(lengths, validation, runs, tracking)
    note(f"a GAN gets better and worse in turns: the best trial was best at step {found.steps}, so its run ends there")
    _say(3, "it goes on against a judge, with what was found, and for comparison with the recipe's own settings")
    settings = {demo.GAN: found.settings} | ({} if found.settings == found.own else {demo.OWN: found.own})
    for name, values in settings.items():
        _train(demo.gan_order(name, values, found.steps, lengths, validation, runs), tracking)
    _say(4, "which is better, on a photograph that nothing has looked at?")
    comparison = _compare(["bicubic", demo.PIXELS, *settings], test, runs, tracking_uri)
    _say(5, f"the best by score, {comparison.best}, goes through the gate into the registry")
    registered = _register(comparison.best, test, runs, tracking_uri)
    _say(6, f"{registered['named']} enlarges a photograph")
    enlarged = _enlarge(registered["named"], runs, tracking_uri)
    result = {
        "found": found.settings,
        "steps": found.steps,
        "search": demo.what_the_search_gained(found, comparison.rows),
        "comparison": comparison.content,
        "page": str(comparison.folder / page.PAGE),
        "picture": str(runs / demo.GAN / demo.PICTURE),
        "registered": registered,
        "enlarged": str(enlarged),
        "seconds": time.monotonic() - begun,
    }
    if json:
        print_json(result)
    else:
        _show(comparison, result, runs)


def _say(number: int, what: str) -> None:
    err.print(f"\n[bold]{number}/{PARTS}  {what}[/bold]")


def _train(order: "Order", tracking: "Tracking") -> None:
    from sisr.cluster.train import Scaling, on_ray
    from sisr.driver.run.execute import execute

    execute(order, tracking, partial(on_ray, Scaling(workers=order.workers)))


def _search(lengths: "Lengths", validation: Path, runs: Path, tracking: "Tracking") -> "Found":
    """Return what the best trial found, and show all trials."""
    from sisr.cluster.tune import RayTune
    from sisr.driver import demo
    from sisr.driver.sweep.execute import execute, nothing_found
    from sisr.sweep.report import board

    plan, space = demo.search_plan(lengths, validation, runs)
    sweep = execute(plan, space, RayTune(), tracking, runs=runs)
    best = sweep.best()
    if best is None:
        raise nothing_found(sweep, runs / demo.SWEEP)
    titles, cells = board.table(sweep, board.rows(sweep), min(err.width, 80))
    table(f"sweep {demo.SWEEP}: {len(cells)} trials", titles, cells, aside=True)
    return demo.found_by(sweep, best)


def _compare(specs: Sequence[str], test: Path, runs: Path, tracking_uri: str | None) -> "Comparison":
    """Compare bicubic, the network by pixels and those against a judge; write the page and the picture."""
    from sisr.driver import comparison, demo, models
    from sisr.evaluation import compare, images

    files = images.find(str(test))
    opened = models.open_all(specs, runs, None, "auto")
    by = compare.measures("rgb8", demo.DISTANCE, models.chosen_device("auto"))
    result = compare.compare(opened, len(opened), files, by, demo.PIXELS, str(test), runs)
    comparison.log(result, tracking_uri, None)
    demo.write_picture(opened[:3], runs / demo.GAN / demo.PICTURE)
    return result


def _register(run: str, test: Path, runs: Path, tracking_uri: str | None) -> dict[str, Any]:
    """Return what the gate decided; `named` is how the model is called from now on."""
    from sisr.driver import demo, models, register
    from sisr.driver.registration_gate import Rules
    from sisr.evaluation.compare import measures
    from sisr.metrics.catalogue import SCORE

    request = register.Registration(run, None, "", None, tracking_uri, runs, demo.GAN, "", "")
    by = measures("rgb8", demo.DISTANCE, models.chosen_device("auto"))
    result = register.register(request, Rules(str(test), by, SCORE.name, "auto"))
    refused = result["state"] == "refused"
    note(f"refused: {register.failures(result)}" if refused else register.summary(result))
    return {**result, "named": run if refused else f"models:/{result['model']}@champion"}


def _enlarge(model: str, runs: Path, tracking_uri: str | None) -> Path:
    """Enlarge a held-out photograph that was made small; return a picture of input pixels, bicubic and the model's."""
    from sisr.driver import demo, models
    from sisr.inference.enlarge import enlarge
    from sisr.models.model import load_model

    opened = load_model(models.locate(model, runs, tracking_uri), name=model)
    folder = runs / demo.GAN / "upscaled"
    compared = folder / f"compared_{demo.PHOTO}"
    enlarge(opened.generator, demo.write_small(opened.scale, folder), folder / demo.PHOTO, compared)
    return compared


def _show(comparison: "Comparison", result: dict[str, Any], runs: Path) -> None:
    """Print what was reached and what to open and type next."""
    from sisr.driver import demo

    measured = [METRICS[name] for name in comparison.rows[0].measured.mean]
    rows = [[row.model, *(m.text(row.measured.mean[m.name]) for m in measured)] for row in comparison.rows]
    title = f"{comparison.content['num_images']} crops of a photograph that nothing has looked at"
    table(title, ["model", *(metric.title for metric in measured)], rows)
    ours = next(row for row in comparison.rows if row.model == demo.GAN)
    note(f"{demo.GAN} less {demo.PIXELS}, with 95 % intervals:")
    for found in ours.differences.values():
        note(f"  {found.metric.title:<6}  {found.text()}  {found.word}")
    note(result["search"])
    note(f"measured {in_words(comparison.content['protocol'])}; all of it took {duration(result['seconds'])}\n")
    note(f"pictures: {result['picture']} and {result['enlarged']}")
    steps = [
        ("compare", result["page"]),
        ("the search", str(runs / demo.SWEEP / "results" / "index.html")),
        ("all runs", next_steps.command("ui", runs=runs)),
        ("try it", next_steps.command("serve", result["registered"]["named"], runs=runs)),
        ("your photographs", "sisr train pixelshuffle --data FOLDER --preset cpu"),
    ]
    next_steps.show([*next_steps.to_find_sisr(), *steps])


if __name__ == "__main__":
    cli.run(main)
