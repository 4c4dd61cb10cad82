"""Ask a running run or sweep to save and end, as Ctrl-C does where it was started; the same command goes on later.

Exit codes: 0 it has ended, 2 it is not running, 75 it has been asked, and had not ended in time.
"""

from pathlib import Path
from typing import Annotated

import typer

from sisr.driver import inventory
from sisr.errors import StoppedError
from sisr.pipelines._completion import names
from sisr.pipelines._options import Runs, folder_of
from sisr.terminal import cli, console


def main(
    run: Annotated[str, typer.Argument(help="Name or folder of a run or sweep.", autocompletion=names)],
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait until it has ended.")] = 60,
    runs: Runs = Path("runs"),
) -> None:
    """Ask it to end, and wait until it has."""
    folder = folder_of("run or sweep", run, runs, *inventory.FILES)
    if not inventory.stop(folder, wait):
        raise StoppedError(f"{folder.name} is asked to end, and still saves after {wait:g} s; `sisr runs` shows it")
    entry = inventory.entry(folder)
    console.out.print(f"{entry.name} {entry.state}, {entry.progress}; the same command goes on", markup=False)


if __name__ == "__main__":
    cli.run(main)
