"""List the runs and sweeps in a folder: state, step, quality, age and size on disk.

Quality is that of the last validation, or of a sweep's best trial. `interrupted` is what was killed: the command that
started it goes on with it.
"""

from dataclasses import asdict
from pathlib import Path

from sisr.driver import inventory
from sisr.driver.inventory import Entry
from sisr.pipelines._options import Json, Runs
from sisr.sweep.report.numbers import number
from sisr.terminal import cli, console

TITLES = ("name", "recipe", "state", "done", "PSNR-Y", "score", "age", "MB")


def main(runs: Runs = Path("runs"), json: Json = False) -> None:
    """Print one line for each run and sweep, the newest first."""
    found = inventory.entries(runs)
    if json:
        console.print_json({"runs": [asdict(entry) | {"folder": str(entry.folder)} for entry in found]})
    elif found:
        console.table("", TITLES, map(_row, found))
    else:
        console.note(f"{runs} holds no runs; `sisr demo` makes the first, --runs names another folder")


def _row(entry: Entry) -> tuple[str, ...]:
    return (
        entry.name,
        f"sweep of {entry.recipe}" if entry.kind == "sweep" else entry.recipe,
        entry.state,
        entry.progress,
        number("val/psnr_y", entry.psnr_y),
        number("val/score", entry.score),
        console.duration(entry.age_s),
        f"{entry.size / 1e6:,.1f}",
    )


if __name__ == "__main__":
    cli.run(main)
