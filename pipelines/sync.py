"""Deliver to MLflow what runs and sweeps have recorded while the tracking server was away.

Without a name, all of them; a sweep with all its trials. Delivering what has arrived already changes nothing.
"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from sisr.disk.sweep_folder import is_sweep, sweep_of
from sisr.errors import ConfigError, TrackingError
from sisr.pipelines._completion import names
from sisr.pipelines._options import Json, Runs, TrackingUri, folder_of
from sisr.storage import ownership
from sisr.terminal import cli, console
from sisr.tracking import courier
from sisr.tracking.outbox import FILE


def main(
    run: Annotated[
        list[str] | None, typer.Argument(help="Names or folders of runs or sweeps; default: all.", autocompletion=names)
    ] = None,
    runs: Runs = Path("runs"),
    tracking_uri: TrackingUri = None,
    experiment: Annotated[str | None, typer.Option(help="MLflow's experiment; default: as before.")] = None,
    json: Json = False,
) -> None:
    """Deliver, print how it went, and fail unless everything arrived."""
    named = [folder_of("run", name, runs, FILE) for name in run or ()]  # of a trial, its sweep is delivered
    if not named:
        ownership.refresh_all(runs)
    folders = [sweep_of(folder) or folder for folder in named] or sorted(p.parent for p in runs.glob(f"*/{FILE}"))
    if not folders:
        raise ConfigError(f"{runs} holds no runs: name their folder with --runs")
    results = [deliver(folder, tracking_uri, experiment) for folder in dict.fromkeys(folders)]
    if json:
        console.print_json({"runs": results})
    else:
        rows = [(_title(r), "yes" if r["delivered"] else "no", r["pending"], r["message"]) for r in results]
        console.table("", ("run", "delivered", "pending", "note"), rows)
    if not all(r["delivered"] for r in results):
        raise TrackingError("not everything is delivered, the note says why; `sisr sync` tries again")


def deliver(folder: Path, tracking_uri: str | None, experiment: str | None) -> dict[str, Any]:
    """Deliver the outbox of a run, or all of a sweep, and return what became of it, ready for JSON."""
    try:
        report = courier.deliver(folder, tracking_uri, experiment)
    except TrackingError as error:
        report = replace(courier.standing(folder), delivered=False, message=str(error))
    result = {"run": folder.name, **asdict(report)}
    if not is_sweep(folder):
        del result["trials"]
    return result


def _title(result: dict[str, Any]) -> str:
    return f"{result['run']} and {len(result['trials'])} trials" if "trials" in result else result["run"]


if __name__ == "__main__":
    cli.run(main)
