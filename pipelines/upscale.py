"""Enlarge a photo, or all images of a folder, with a model.

Large images, up to 50 megapixels, are computed in tiles that leave no seams. Grey and transparent images keep their
channels, and a 16-bit PNG its bits where PNG is written; EXIF orientation is applied; the colour profile, EXIF, the
resolution and texts are kept as far as the format holds them (--strip leaves all but the profile out). Tiles are cut so
that they fit into three quarters of the memory that is free; a network whose reach is not known is tiled with a context
that is measured, and its result says how close it is. PNG is written as it is computed. JPEG, WebP and AVIF need 4
bytes for each output pixel besides.
Exit codes: 0 done, 2 a wrong option, 3 unusable images, 4 no such model, 5 out of memory, 69 MLflow does not answer,
73 can't write.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sisr.config.wording import printable
from sisr.data.formats import RefusedError
from sisr.data.images import decode_with_alpha
from sisr.data.writing import Saving
from sisr.driver import models, next_steps
from sisr.errors import DataError
from sisr.inference.jobs import Job, check_paths, check_targets, plan
from sisr.pipelines._options import Device, InferencePrecision, Json, OutputScale, Recipes, Runs, SelfEnsemble
from sisr.terminal import cli, console

if TYPE_CHECKING:
    from sisr.inference.enlarge import Enlargement
    from sisr.inference.prepared import Prepared

FORMAT = "png, jpg, webp or avif. Default: OUTPUT's, else png."
OUTPUT = "File or folder to write. Default: beside the input, as NAME_x4.png, or the folder NAME_x4."
LONG_S = 5.0  # from which on the user is told beforehand
COMPARE = "Write NAME_compare, too: input pixels | bicubic | model, side by side, each below its name."
HALO = "Context around a tile in input pixels; less than the model's own, the default, is faster but not exact."
QUALITY = "Of JPEG, WebP and AVIF; WebP loses nothing at 100."
CHROMA = "Colours of JPEG and AVIF: 444 in full resolution, 420 in half; auto: 444 from quality 90 on."
STRIP = "Leave out EXIF, resolution and texts; the colour profile stays."
FOLLOW = "Take files and folders that links in INPUT lead to, also where they lie elsewhere."
TILE = "Side of a tile in input pixels; 0: all in one piece. Default: as memory allows."


def main(
    image: Annotated[Path, typer.Argument(metavar="INPUT", help="An image file, or a folder of them.")],
    model: Annotated[str, typer.Option("--model", "-m", help=models.HELP)],
    output: Annotated[Path | None, typer.Option("--output", "-o", help=OUTPUT)] = None,
    format_: Annotated[str | None, typer.Option("--format", help=FORMAT)] = None,
    quality: Annotated[int, typer.Option(min=1, max=100, help=QUALITY)] = 95,
    chroma: Annotated[Literal["auto", "444", "420"], typer.Option(help=CHROMA)] = "auto",
    compare: Annotated[bool, typer.Option("--compare", help=COMPARE)] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there already.")] = False,
    strip: Annotated[bool, typer.Option("--strip", help=STRIP)] = False,
    follow_links: Annotated[bool, typer.Option("--follow-links", help=FOLLOW)] = False,
    scale: Annotated[int | None, typer.Option(min=1, help="For bicubic; a model has its own.")] = None,
    output_scale: OutputScale = None,
    self_ensemble: SelfEnsemble = False,
    precision: InferencePrecision = "auto",
    tile: Annotated[int | None, typer.Option(min=0, help=TILE)] = None,
    halo: Annotated[int | None, typer.Option(min=0, help=HALO)] = None,
    recipe: Recipes = None,
    device: Device = "auto",
    runs: Runs = Path("runs"),
    json: Json = False,
) -> dict[str, Any]:
    """Enlarge images with a model."""
    check_paths(image, output, format_)
    opened = models.varied(models.open_model(model, runs, scale, device, recipe or []), self_ensemble, output_scale)
    prepared = models.prepared(opened, precision)
    jobs = plan(image, output, format_, opened.scale, compare, follow_links)
    check_targets(jobs, overwrite)
    options = {"tile": tile, "halo": halo, "saving": Saving(quality, chroma), "strip": strip, "made_by": model}
    done, refused = [], []
    for job in jobs:
        try:
            done.append(_upscale(prepared, job, options, json))
        except DataError as error:
            if len(jobs) == 1:
                raise
            refused.append(str(error))
    facts = {"model": model, "scale": opened.scale, "precision": prepared.number_format}
    content = {**facts, "images": done, "refused": refused}
    if json:
        console.print_json(content)
    if refused:
        shown = "\n".join(f"  {reason}" for reason in refused[:10])
        raise DataError(f"{len(refused)} of {len(jobs)} images could not be upscaled:\n{shown}")
    if not json and not recipe and output is None:  # a longer command would only repeat what was typed
        next_steps.show(next_steps.after_upscaling(image, model, compare, runs))
    return content


def _upscale(prepared: "Prepared", job: Job, options: dict[str, Any], quiet: bool) -> dict[str, Any]:
    """Enlarge one image; return what was done, ready for JSON."""
    from sisr.inference.enlarge import enlarge_picture

    if job.refused:
        raise RefusedError(*job.refused, job.source)
    begun, note = time.monotonic(), prepared.note
    picture = decode_with_alpha(job.source, everything=True)
    prepared.look_at(picture)
    if prepared.note != note:
        console.note(prepared.note)
    begin = partial(_begin, prepared, job.source.name)
    done = enlarge_picture(prepared.generator, picture, job.target, job.comparison, begin=begin, **options)
    seconds = round(time.monotonic() - begun, 2)
    if not quiet:
        explained = f"; {', '.join(done.notes)}" if done.notes else ""
        size = f"{done.width}x{done.height}"
        console.write(f"{printable(str(job.target))}: {size}, {seconds} s{explained}")
        if job.comparison:
            console.write(f"  beside bicubic: {printable(str(job.comparison))}", hanging=0)
    files = {"input": str(job.source), "output": str(job.target)}
    comparison = {"comparison": str(job.comparison)} if job.comparison else {}
    return {**files, **comparison, **asdict(done), "seconds": seconds}


@contextmanager
def _begin(prepared: "Prepared", name: str, enlargement: "Enlargement") -> Iterator["console.Advance"]:
    """Say how long it will take, warn of what takes too much memory, and show progress."""
    from sisr.inference.tiled import memory_budget

    if enlargement.memory_bytes > 1.5 * memory_budget(prepared.generator):
        gib = enlargement.memory_bytes / 2**30
        console.err.print(f"one tile takes about {gib:.0f} GiB; --tile 128 --halo 32 takes less, but is not exact")
    expected = prepared.seconds(enlargement.num_px)
    if expected and expected > LONG_S:
        size = f"{enlargement.result.width}x{enlargement.result.height}"
        tiles = f", {enlargement.num_passes} passes of tiles" if enlargement.num_passes > 1 else ""
        took = f"{name}: {size} will take about {console.duration(expected)}{tiles}"
        console.note(took)
    begun = time.monotonic()
    with console.progress(f"upscaling {name}", enlargement.num_passes) as advance:
        yield advance
    prepared.took(enlargement.num_px, time.monotonic() - begun)


if __name__ == "__main__":
    cli.run(main)
