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
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sisr.driver import models

if TYPE_CHECKING:
    from sisr.inference.strips import Enlargement
    from sisr.models.model import Model

FORMAT = "png, jpg or webp. Default: OUTPUT's, else png."
OUTPUT = "File or folder to write. Default: beside the input, as NAME_x4.png, or the folder NAME_x4."
COMPARE = "Write NAME_compare, too: input pixels | bicubic | model, side by side."
HALO = "Context around a tile in input pixels; less than the model's own, the default, is faster but not exact."
CHROMA = "Colours of JPEG: 444 in full resolution, 420 in half; auto: 444 from quality 90 on."
TILE = "Side of a tile in input pixels; 0: all in one piece. Default: as memory allows."


@dataclass(frozen=True)
class Job:
    """One image to enlarge."""

    source: Path
    target: Path
    comparison: Path | None
    refused: tuple[str, str] | None = None  # why it can't be read, where that is known already

    @property
    def outputs(self) -> list[Path]:
        """The files that it writes."""
        return [self.target] if self.comparison is None else [self.target, self.comparison]


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
    recipe: Annotated[list[str] | None, typer.Option(help=models.RECIPE)] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    runs: Annotated[Path, typer.Option(help="Folder that holds all runs.")] = Path("runs"),
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Enlarge images with a model."""
    from sisr.data.writing import Saving
    from sisr.errors import DataError
    from sisr.terminal import console

    _check_paths(image, output, format_)
    opened = models.open_model(model, runs, scale, device, recipe or [])
    jobs = plan(image, output, format_, opened.scale, compare)
    _check_targets(jobs, overwrite)
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


def plan(image: Path, output: Path | None, format_: str | None, scale: int, compare: bool) -> list[Job]:
    """Return what to read and where to write, without touching anything.

    Raises:
        ConfigError: Two images would be written to the same file.
        DataError: The folder holds no image.
    """
    from sisr.data.sources.folder import find_images

    suffix = f".{format_ or 'png'}"
    if image.is_file():
        named = f"{image.stem}_x{scale}{suffix}"
        if output is None:
            return [_job(image, image.with_name(named), compare)]
        into_folder = output.is_dir() or not output.suffix
        return [_job(image, output / named if into_folder else output, compare)]
    folder = output or image.resolve().with_name(f"{image.resolve().name}_x{scale}")
    files = find_images(image)
    jobs = [_job(f.path, (folder / f.name).with_suffix(suffix), compare, f.refused) for f in files]
    _check_distinct(jobs)
    return jobs


def _job(source: Path, target: Path, compare: bool, refused: tuple[str, str] | None = None) -> Job:
    comparison = target.with_name(f"{target.stem}_compare{target.suffix}") if compare else None
    return Job(source, target, comparison, refused)


def _check_paths(image: Path, output: Path | None, format_: str | None) -> None:
    from sisr.data.writing import LARGEST
    from sisr.errors import ConfigError, DataError

    if not image.exists():
        raise DataError(f"{image} is not there; wanted an image file or a folder of images")
    if format_ is not None and f".{format_}" not in LARGEST:
        raise ConfigError(f"--format {format_}: can't write that; wanted png, jpg or webp")
    if output is None:
        return
    suffix = output.suffix.lower()
    if image.is_dir():
        if output.is_file() or suffix in LARGEST:
            raise ConfigError(f"--output {output} is a file but {image} is a folder; name a folder")
        if output.resolve().is_relative_to(image.resolve()):
            raise ConfigError(f"--output {output} lies in the input folder, which would be enlarged again next time")
    elif suffix and suffix not in LARGEST and not output.is_dir():
        raise ConfigError(f"--output {output}: can't write '{output.suffix}'; wanted {', '.join(LARGEST)}, or a folder")
    elif suffix in LARGEST and format_ and {suffix, f".{format_}"} not in ({suffix}, {".jpg", ".jpeg"}):
        raise ConfigError(f"--output {output} and --format {format_} contradict each other; leave one out")


def _check_distinct(jobs: Sequence[Job]) -> None:
    from sisr.errors import ConfigError

    writers: dict[Path, Path] = {}
    for job in jobs:
        for path in job.outputs:
            if path in writers:
                raise ConfigError(f"{writers[path]} and {job.source} would both be written to {path}; rename one")
            writers[path] = job.source


def _check_targets(jobs: Sequence[Job], overwrite: bool) -> None:
    from sisr.errors import ConfigError

    sources = {job.source.resolve() for job in jobs}
    outputs = [path for job in jobs for path in job.outputs]
    over_input = [path for path in outputs if path.resolve() in sources]
    if over_input:
        raise ConfigError(f"{over_input[0]} is an input; it is never overwritten: choose another --output")
    there = [path for path in outputs if path.exists()]
    if there and not overwrite:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise ConfigError(f"{there[0]}{more} exists already; --overwrite replaces it, --output writes elsewhere")


def _upscale(model: "Model", job: Job, options: dict[str, Any], quiet: bool) -> dict[str, Any]:
    """Enlarge one image; return what was done, ready for JSON."""
    from sisr.data.formats import RefusedError
    from sisr.inference.enlarge import enlarge
    from sisr.terminal import console

    if job.refused:
        raise RefusedError(*job.refused, job.source)
    begun = time.monotonic()
    begin = partial(_begin, model, job.source.name)
    done = enlarge(model.generator, job.source, job.target, job.comparison, begin=begin, **options)
    seconds = round(time.monotonic() - begun, 2)
    if not quiet:
        explained = f"; {', '.join(done.notes)}" if done.notes else ""
        console.out.print(f"{job.target}: {done.width}x{done.height}, {seconds} s{explained}", markup=False)
    files = {"input": str(job.source), "output": str(job.target)}
    comparison = {"comparison": str(job.comparison)} if job.comparison else {}
    return {**files, **comparison, **asdict(done), "seconds": seconds}


def _begin(model: "Model", name: str, enlargement: "Enlargement") -> Any:
    """Warn of what is about to take too much memory, and show progress."""
    from sisr.inference.tiled import memory_budget
    from sisr.terminal import console

    if enlargement.memory_bytes > 1.5 * memory_budget(model.generator):
        gib = enlargement.memory_bytes / 2**30
        console.err.print(f"one tile takes about {gib:.0f} GiB; --tile 128 --halo 32 takes less, but is not exact")
    return console.progress(f"upscaling {name}", enlargement.num_passes)


if __name__ == "__main__":
    from sisr.terminal.cli import run

    run(main)
