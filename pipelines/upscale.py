"""Enlarge a photo, or all images of a folder, with a model.

Large images, up to 50 megapixels, are computed in tiles that leave no seams. Grey and transparent images keep their
channels, EXIF orientation is applied, 16-bit images are reduced to 8, the colour profile is kept. Tiles are cut so that
one takes a quarter of the free memory, 1 to 4 GiB (on a GPU: half of what is free); a network that looks very far needs
more, and says so. PNG is written as it is computed: 50 megapixels take about 2.5 GB with pixelshuffle. JPEG and WebP
need 4 bytes for each output pixel besides.
Exit codes: 0 done, 2 a wrong option, 3 unusable images, 4 no such model, 5 out of memory, 69 MLflow does not answer,
73 can't write.
"""

import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sisr.config.wording import printable
from sisr.data.formats import RefusedError
from sisr.data.writing import Saving
from sisr.driver import models
from sisr.errors import DataError
from sisr.inference.jobs import Job, check_paths, check_targets, plan
from sisr.pipelines._options import Device, Json, Recipes, Runs
from sisr.terminal import cli, console

if TYPE_CHECKING:
    from sisr.inference.enlarge import Enlargement
    from sisr.models.model import Model

FORMAT = "png, jpg or webp. Default: OUTPUT's, else png."
OUTPUT = "File or folder to write. Default: beside the input, as NAME_x4.png, or the folder NAME_x4."
COMPARE = "Write NAME_compare, too: input pixels | bicubic | model, side by side."
HALO = "Context around a tile in input pixels; less than the model's own, the default, is faster but not exact."
CHROMA = "Colours of JPEG: 444 in full resolution, 420 in half; auto: 444 from quality 90 on."
TILE = "Side of a tile in input pixels; 0: all in one piece. Default: as memory allows."


def main(
    image: Annotated[Path, typer.Argument(metavar="INPUT", help="An image file, or a folder of them.")],
    model: Annotated[str, typer.Option("--model", "-m", help=models.HELP)],
    output: Annotated[Path | None, typer.Option("--output", "-o", help=OUTPUT)] = None,
    format_: Annotated[str | None, typer.Option("--format", help=FORMAT)] = None,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of JPEG and WebP; WebP loses nothing at 100.")] = 95,
    chroma: Annotated[Literal["auto", "444", "420"], typer.Option(help=CHROMA)] = "auto",
    compare: Annotated[bool, typer.Option("--compare", help=COMPARE)] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there already.")] = False,
    scale: Annotated[int | None, typer.Option(min=1, help="For bicubic; a model has its own.")] = None,
    tile: Annotated[int | None, typer.Option(min=0, help=TILE)] = None,
    halo: Annotated[int | None, typer.Option(min=0, help=HALO)] = None,
    recipe: Recipes = None,
    device: Device = "auto",
    runs: Runs = Path("runs"),
    json: Json = False,
) -> None:
    """Enlarge images with a model."""
    check_paths(image, output, format_)
    opened = models.open_model(model, runs, scale, device, recipe or [])
    jobs = plan(image, output, format_, opened.scale, compare)
    check_targets(jobs, overwrite)
    options = {"tile": tile, "halo": halo, "saving": Saving(quality, chroma)}
    done, refused = [], []
    for job in jobs:
        try:
            done.append(_upscale(opened, job, options, json))
        except DataError as error:
            if len(jobs) == 1:
                raise
            refused.append(str(error))
    if json:
        console.print_json({"model": model, "scale": opened.scale, "images": done, "refused": refused})
    if refused:
        shown = "\n".join(f"  {reason}" for reason in refused[:10])
        raise DataError(f"{len(refused)} of {len(jobs)} images could not be upscaled:\n{shown}")


def _upscale(model: "Model", job: Job, options: dict[str, Any], quiet: bool) -> dict[str, Any]:
    """Enlarge one image; return what was done, ready for JSON."""
    from sisr.inference.enlarge import enlarge

    if job.refused:
        raise RefusedError(*job.refused, job.source)
    begun = time.monotonic()
    begin = partial(_begin, model, job.source.name)
    done = enlarge(model.generator, job.source, job.target, job.comparison, begin=begin, **options)
    seconds = round(time.monotonic() - begun, 2)
    if not quiet:
        explained = f"; {', '.join(done.notes)}" if done.notes else ""
        size = f"{done.width}x{done.height}"
        console.out.print(f"{printable(str(job.target))}: {size}, {seconds} s{explained}", markup=False)
    files = {"input": str(job.source), "output": str(job.target)}
    comparison = {"comparison": str(job.comparison)} if job.comparison else {}
    return {**files, **comparison, **asdict(done), "seconds": seconds}


def _begin(model: "Model", name: str, enlargement: "Enlargement") -> Any:
    """Warn of what is about to take too much memory, and show progress."""
    from sisr.inference.tiled import memory_budget

    if enlargement.memory_bytes > 1.5 * memory_budget(model.generator):
        gib = enlargement.memory_bytes / 2**30
        console.err.print(f"one tile takes about {gib:.0f} GiB; --tile 128 --halo 32 takes less, but is not exact")
    return console.progress(f"upscaling {name}", enlargement.num_passes)


if __name__ == "__main__":
    cli.run(main)
