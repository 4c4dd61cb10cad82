"""Remove runs or sweeps: checkpoints, models and samples. What MLflow has recorded stays there.

Exit codes: 0 done, 2 there is no such run, or nobody confirmed, 6 somebody is at work on it.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from sisr.driver import inventory
from sisr.errors import ConfigError
from sisr.pipelines._completion import names
from sisr.pipelines._options import Runs, folder_of
from sisr.terminal import cli, console


def main(
    run: Annotated[list[str], typer.Argument(help="Names or folders of runs or sweeps.", autocompletion=names)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    runs: Runs = Path("runs"),
) -> None:
    """Remove the folders, after asking."""
    found = [inventory.entry(folder_of("run or sweep", name, runs, *inventory.FILES)) for name in dict.fromkeys(run)]
    for entry in found:
        line = f"{entry.folder}: {entry.kind}, {entry.state}, {entry.progress}, {entry.size / 1e6:,.1f} MB"
        console.note(line)
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError("nothing was removed: there is no terminal to ask at; --yes removes without asking")
        typer.confirm("remove for ever?", abort=True, err=True)
    for entry in found:
        inventory.remove(entry.folder)
        console.note(f"removed {entry.name}")


if __name__ == "__main__":
    cli.run(main)
