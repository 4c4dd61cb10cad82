"""Bring a run or sweep home from object storage: a folder like any other, with its checkpoints.

Every file is verified by its SHA-256. What is there already is not fetched again, also after an interruption.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from sisr.driver.inventory import FILES
from sisr.errors import ConfigError
from sisr.pipelines._options import Json
from sisr.storage import snapshot
from sisr.storage.address import parse
from sisr.storage.bucket import Bucket
from sisr.terminal import cli, console


def main(
    address: Annotated[str, typer.Argument(help="Of a run or sweep: s3://BUCKET/PATH/NAME.")],
    folder: Annotated[Path, typer.Argument(help="Where to put it: new, or left by an earlier pull.")],
    json: Json = False,
) -> dict[str, Any]:
    """Fetch the newest state of a run."""
    place = parse(address)
    is_run = any((folder / file).is_file() for file in FILES)
    if folder.exists() and not is_run and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(f"{folder} exists, and is no run's: name a new folder")
    console.note(f"fetching {place}")
    found, lacking = snapshot.fetch_newest(Bucket(place), folder)
    if found is None:
        raise ConfigError(f"{place} holds no run: `sisr runs --runs {place.parent}` lists those that are there")
    for problem in lacking:
        console.note(f"warning: {place}: {problem}")
    size = sum(entry.bytes for entry in found.files.values())
    result = {"folder": str(folder), "files": len(found.files), "bytes": size, "lacking": lacking}
    if json:
        console.print_json(result)
    else:
        console.out.print(f"{folder}: {len(found.files)} files, {size / 1e6:,.1f} MB", markup=False)
    return result


if __name__ == "__main__":
    cli.run(main)
