"""Examine what a run needs before it starts: this machine, a folder of images, or a file that starts a cluster.

Without an argument, this machine: Python, libraries, GPUs, memory, disk, Ray's token, temporary folder, user, proxies,
MLflow, and the Ray that commands would connect to. With a folder, each of its images, as training would judge it, all
of its packed pixels, and where it holds pairs, which bicubic made the low-resolution ones and which files have no
partner. With a YAML file of Ray's cluster launcher, what is not filled in, what Ray refuses, and what would be unsafe.
Exit codes: 0 nothing is wrong, 2 the machine or the cluster file, 3 the images.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sisr.disk import cache
from sisr.doctor import Diagnosis, cluster_file, environment, machine
from sisr.errors import ConfigError, DataError
from sisr.pipelines._options import Json, Runs, TrackingUri
from sisr.terminal import cli, console


def main(
    subject: Annotated[
        str | None, typer.Argument(help="A cluster file, a folder of images or another source; default: this machine.")
    ] = None,
    runs: Runs = Path("runs"),
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Examine SUBJECT and say what is wrong, and what would be right."""
    is_images = subject is not None and Path(subject).suffix not in (".yaml", ".yml")
    found = _examine(subject, runs, tracking_uri, is_images=is_images)
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
