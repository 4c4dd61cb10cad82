"""Examine what a run needs before it starts: this machine, a folder of images, or a file that starts a cluster.

Without an argument, this machine: Python, libraries, GPUs, memory, disk, Ray's token, temporary folder, user, proxies,
MLflow, and the Ray that commands would connect to. With a folder, each of its images, as training would judge it, all
of its packed pixels, and where it holds pairs, which files have no partner, which kernel made the low-resolution ones
and how far they lie beside the others; so of pairs:HR_FOLDER,LR_FOLDER. `--degradation real_esrgan --picture sheet.png`
shows what a degradation makes of images. With a YAML file of Ray's launcher, what is not filled in, what Ray refuses,
and what would be unsafe. With s3://BUCKET/PATH, whether runs can be kept there: permissions, conditional writes, speed,
versions; where packed images were published, these.
Exit codes: 0 nothing is wrong, 2 the machine, the cluster file or the storage, 3 the images.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sisr.disk import cache
from sisr.doctor import Diagnosis, bucket, cluster_file, environment, machine
from sisr.errors import ConfigError, DataError
from sisr.pipelines._options import Json, Runs, TrackingUri
from sisr.terminal import cli, console

DEGRADATION = (
    "How lr is made: bicubic, area, blur, real_esrgan or bsrgan, or a mapping such as {kind: blur, sigma: [1, 3]}."
)


def main(
    subject: Annotated[
        str | None,
        typer.Argument(
            help="A cluster file, a folder of images, pairs, another source, or s3://...; default: this machine."
        ),
    ] = None,
    runs: Runs = Path("runs"),
    tracking_uri: TrackingUri = None,
    degradation: Annotated[str | None, typer.Option(help=DEGRADATION)] = None,
    picture: Annotated[Path | None, typer.Option(help="PNG file for what --degradation makes of the images.")] = None,
    json: Json = False,
) -> None:
    """Examine SUBJECT and say what is wrong, and what would be right."""
    is_bucket = subject is not None and subject.startswith("s3://") and not bucket.holds_images(subject)
    is_images = subject is not None and Path(subject).suffix not in (".yaml", ".yml") and not is_bucket
    if (degradation is None) != (picture is None) or (degradation and not is_images):
        raise ConfigError("--degradation NAME and --picture FILE.png go together, and with a folder of images")
    if subject and degradation and picture:
        from sisr.doctor import degraded

        degraded.save_sheet(subject, degraded.degradation_of(degradation), picture)
        console.note(f"{picture} shows 24 examples")
    found = bucket.examine(str(subject)) if is_bucket else _examine(subject, runs, tracking_uri, is_images=is_images)
    wrong = [one for one in found if one.level == "error"]
    if json:
        console.print_json({"subject": subject, "findings": [asdict(one) for one in found]})
    else:
        console.table("", ("", "what", "found", "what to do"), [(d.level, d.what, d.found, d.remedy) for d in found])
    if wrong:
        kind = DataError if is_images else ConfigError
        more = f"; and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise kind(f"{wrong[0].what}: {wrong[0].found}{more}")


def _examine(subject: str | None, runs: Path, tracking_uri: str | None, *, is_images: bool) -> list[Diagnosis]:
    if subject is None:
        from sisr.cluster import connection

        around = [*environment.examine(runs, tracking_uri), connection.examine()]
        return [*machine.examine(runs, cache.folder()), *around]
    if is_images:
        from sisr.doctor import images

        return images.examine(subject)
    from sisr.cluster.capacity import with_defaults

    return [*cluster_file.examine(Path(subject), with_defaults), machine.code(), machine.stamp()]


if __name__ == "__main__":
    cli.run(main)
