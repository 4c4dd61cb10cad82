"""Which image files are enlarged, and where to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sisr.data.sources.folder import find_images
from sisr.data.writing import LARGEST
from sisr.errors import ConfigError, DataError


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


def check_paths(image: Path, output: Path | None, format_: str | None) -> None:
    """Raise ConfigError if input, output and format contradict each other, DataError if there is no input."""
    if not image.exists():
        raise DataError(f"{image} is not there; name an image file or a folder of images")
    if format_ is not None and f".{format_}" not in LARGEST:
        raise ConfigError(f"--format {format_}: can't write that; choose png, jpg, webp or avif")
    if output is None:
        return
    suffix = output.suffix.lower()
    if image.is_dir():
        if output.is_file() or suffix in LARGEST:
            raise ConfigError(f"--output {output} is a file but {image} is a folder; name a folder")
        if output.resolve().is_relative_to(image.resolve()):
            raise ConfigError(f"--output {output} lies in the input folder, which would be enlarged again next time")
    elif suffix and suffix not in LARGEST and not output.is_dir():
        raise ConfigError(f"--output {output}: can't write '{output.suffix}'; name {', '.join(LARGEST)}, or a folder")
    elif suffix in LARGEST and format_ and {suffix, f".{format_}"} not in ({suffix}, {".jpg", ".jpeg"}):
        raise ConfigError(f"--output {output} and --format {format_} contradict each other; leave one out")


def plan(
    image: Path, output: Path | None, format_: str | None, scale: int, compare: bool, links: bool = False
) -> list[Job]:
    """Return what to read and where to write, without touching anything.

    Without `output`, a file or folder, that is beside the input, under a name with `scale` in it. Without `format_`,
    png, jpg, webp or avif, it is as the output is called, else png. `compare` asks for a comparison of each image, too;
    `links` follows links out of the folder.

    Raises:
        ConfigError: Two images would be written to the same file.
        DataError: The folder holds no image.
    """
    suffix = f".{format_ or 'png'}"
    if image.is_file():
        named = f"{image.stem}_x{scale}{suffix}"
        if output is None:
            return [_job(image, image.with_name(named), compare)]
        into_folder = output.is_dir() or not output.suffix
        return [_job(image, output / named if into_folder else output, compare)]
    folder = output or image.resolve().with_name(f"{image.resolve().name}_x{scale}")
    jobs = [_job(f.path, (folder / f.name).with_suffix(suffix), compare, f.refused) for f in find_images(image, links)]
    writers: dict[Path, Path] = {}
    for job in jobs:
        for path in job.outputs:
            if path in writers:
                raise ConfigError(f"{writers[path]} and {job.source} would both be written to {path}; rename one")
            writers[path] = job.source
    return jobs


def _job(source: Path, target: Path, compare: bool, refused: tuple[str, str] | None = None) -> Job:
    comparison = target.with_name(f"{target.stem}_compare{target.suffix}") if compare else None
    return Job(source, target, comparison, refused)


def check_targets(jobs: Sequence[Job], overwrite: bool) -> None:
    """Raise ConfigError if a file is there that may not be replaced; an input never may."""
    sources = {job.source.resolve() for job in jobs}
    outputs = [path for job in jobs for path in job.outputs]
    over_input = [path for path in outputs if path.resolve() in sources]
    if over_input:
        raise ConfigError(f"{over_input[0]} is an input; it is never overwritten: choose another --output")
    there = [path for path in outputs if path.exists()]
    if there and not overwrite:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise ConfigError(f"{there[0]}{more} exists already; --overwrite replaces it, --output writes elsewhere")
