"""Show one run or sweep: how far it is, what it was given, what it measured, and what can be done with it next.

Reads the folder alone: MLflow and torch are not needed.
"""

from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from sisr.disk.run_folder import RunFolder
from sisr.driver import inventory, next_steps
from sisr.driver.inventory import Entry
from sisr.pipelines._completion import names
from sisr.pipelines._options import Json, Runs, folder_of
from sisr.sweep.report.numbers import settings
from sisr.terminal import cli, console
from sisr.terminal.displays import by_set, plain, quality, validation


def main(
    run: Annotated[str, typer.Argument(help="Name or folder of a run or sweep.", autocompletion=names)],
    runs: Runs = Path("runs"),
    json: Json = False,
) -> None:
    """Print what the folder says."""
    folder = folder_of("run or sweep", run, runs, *inventory.FILES)
    entry, record = inventory.entry(folder), inventory.record(folder)
    status = RunFolder(folder).status()
    if json:
        content = asdict(entry) | {"folder": str(folder)}
        console.print_json({**content, "run": record, "status": status} if record else content)
        return
    console.table("", ("", entry.name), _facts(entry, record, status))
    for line in _next(entry, runs):
        console.out.print(line, markup=False)


def _facts(entry: Entry, record: dict[str, Any], status: dict[str, Any]) -> list[tuple[str, str]]:
    facts = [
        ("kind", f"{entry.kind} of {entry.recipe}"),
        ("state", f"{entry.state}, {entry.progress}"),
        ("message", entry.message),
        ("images", entry.data),
        ("measured", validation(status) + f" at step {status['validation_step']:,}" if _validated(status) else ""),
        *((f"on {name}", quality(values)) for name, values in by_set(plain(status.get("validation", {}))).items()),
        ("settings", settings(record.get("config", {}))),
        ("options", settings(record.get("options", {}))),
        ("folder", f"{entry.folder} ({entry.size / 1e6:,.1f} MB)"),
    ]
    return [(name, text) for name, text in facts if text]


def _validated(status: dict[str, Any]) -> bool:
    return bool(status.get("validation")) and "validation_step" in status


def _next(entry: Entry, runs: Path) -> list[str]:
    """Return what can be typed next."""
    where = "" if runs == Path("runs") else f" --runs {quote(str(runs))}"
    name = quote(entry.name)
    if entry.kind == "sweep":
        return [f"trials:   sisr leaderboard {name}{where}"]
    if entry.state == "running":
        return [f"end it:   sisr stop {name}{where}"]
    steps = next_steps.after_run if (entry.folder / "model").is_dir() else next_steps.to_go_on
    return next_steps.lines(steps(entry.folder))


if __name__ == "__main__":
    cli.run(main)
