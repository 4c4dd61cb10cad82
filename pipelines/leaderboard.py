"""Show a sweep's trials, best first, while it runs and afterwards.

Trials that went further stand above those that did not, since values at unequal steps don't compare; a star marks the
trials that no other beats in both of two objectives. --page writes pictures of the search and a page with the trials'
samples side by side to the sweep's folder `results`.
Exit codes: 0 done, 2 a wrong option or no such sweep, 4 a damaged record, 73 can't write.
"""

from pathlib import Path
from typing import Annotated

import typer

from sisr.disk.run_folder import RECORD
from sisr.disk.sweep_folder import FILE, is_sweep
from sisr.errors import ConfigError
from sisr.pipelines._completion import sweep_names
from sisr.pipelines._options import Json, Runs, folder_of
from sisr.storage import ownership
from sisr.sweep import state
from sisr.sweep.report import board
from sisr.sweep.state import Sweep
from sisr.terminal import cli, console


def main(
    sweep: Annotated[str, typer.Argument(help="A sweep's name or folder.", autocompletion=sweep_names)],
    top: Annotated[int, typer.Option(min=1, help="Show this many trials.")] = 20,
    page: Annotated[bool, typer.Option("--page", help="Write results/index.html, its pictures and the JSON.")] = False,
    runs: Runs = Path("runs"),
    json: Json = False,
) -> None:
    """Show a sweep's leaderboard."""
    folder = find(sweep, runs)
    found = state.read(folder)
    written: list[Path] = []
    if page:
        from sisr.sweep.report import results  # draws by matplotlib

        written = results.write(folder, found)
    shown = board.rows(found)[:top]
    if json:
        files = {"written": [str(path) for path in written]} if page else {}
        console.print_json({**board.as_json(found, shown), **files})
        return
    width = console.out.width if console.out.is_terminal else 10_000
    console.table(_title(found), *board.table(found, shown, width))
    if len(found.trials) > len(shown):
        console.out.print(f"{len(shown)} of {len(found.trials)} trials; --top shows more", markup=False)
    for row in shown:
        if row.message:
            console.write(f"trial {row.trial} {row.state}: {' '.join(row.message.split())}")
    for path in written:
        console.out.print(str(path), markup=False)


def find(name: str, runs: Path) -> Path:
    """Return the folder of the sweep called `name`, or at the path `name`.

    Raises:
        ConfigError: There is none.
    """
    places = (ownership.folder_of(name, runs), Path(name))
    if not any(map(is_sweep, places)) and any((folder / RECORD).is_file() for folder in places):
        raise ConfigError(f"'{name}' is one run and no sweep: a leaderboard ranks the trials that a sweep started")
    return folder_of("sweep", name, runs, FILE)


def _title(sweep: Sweep) -> str:
    objectives = ", ".join(f"{metric} {mode}" for metric, mode in sweep.plan.measures)
    named = f"sweep {sweep.plan.name} ({sweep.plan.recipe}; {objectives})"
    return f"{named}: {sweep.state}; {board.states(sweep)}"


if __name__ == "__main__":
    cli.run(main)
