"""What the driver records of a sweep: its plan, and the lines of its own outbox and its trials'."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sisr.disk.run_folder import RunFolder
from sisr.disk.sweep_folder import FILE
from sisr.driver.run import record
from sisr.driver.sweep.files import BEST
from sisr.errors import RunLockedError
from sisr.sweep.plan import Plan
from sisr.sweep.state import Sweep, Trial
from sisr.tracking.outbox import ENDED, FINAL, Outbox, Status, last_status
from sisr.tracking.outbox import FILE as OUTBOX
from sisr.training.run import Run

# The state of a sweep or trial in MLflow's words. A trial that was given up for better ones has done all it had to.
MLFLOW_STATUS: dict[str, Status] = {
    "finished": "FINISHED",
    "pruned": "FINISHED",
    "paused": "KILLED",
    "stopped": "KILLED",
    "diverged": "FAILED",
    "failed": "FAILED",
}


def announce(folder: RunFolder, plan: Plan) -> None:
    """Put what identifies a sweep into its outbox."""
    apart = {"space", "fixed", "scheduler_options", "search_options"}
    described = plan.model_dump(exclude={"format", "recipe_source", "options", "earlier", *apart})
    described = {name: value for name, value in described.items() if value not in ((), {})}
    described |= {f"scheduler.{name}": value for name, value in plan.scheduler_options.items()}
    described |= {f"search.{name}": value for name, value in plan.search_options.items()}
    described |= {f"space.{name}": value for name, value in plan.space.items()}
    described |= {f"fixed.{name}": value for name, value in plan.fixed.items()}
    tags = {"sisr.kind": "sweep", "sisr.recipe": plan.recipe, "sisr.folder": str(folder.path.resolve())}
    with Outbox(folder.path) as outbox:
        outbox.params(described)
        outbox.tags(tags | {"sisr.data_fingerprint": plan.fingerprint, "sisr.objective": list(plan.objective)})
        outbox.status("RUNNING")
        outbox.artifact(FILE)
        record.add_hashes(outbox, folder)


def announce_trial(run: Run, folder: RunFolder, facts: dict[str, Any], sweep: str, trial: Trial) -> None:
    """Put what identifies a trial into its outbox."""
    record.announce(run, folder, facts, resumed=False)
    with Outbox(folder.path) as outbox:
        outbox.tags({"sisr.kind": "trial", "sisr.sweep": sweep, "sisr.trial": trial.name})


def reopen(folder: RunFolder) -> None:
    """Record that a trial goes on."""
    with Outbox(folder.path) as outbox:
        outbox.status("RUNNING")


def tag_copy(folder: RunFolder, trial: Trial, donor: Trial) -> None:
    """Record what a trial has copied last, and with which settings it goes on."""
    copy = trial.exploits[-1]
    with Outbox(folder.path) as outbox:
        facts = {"step": copy.step, "donor": donor.name, **copy.params}
        outbox.tags({f"sisr.copy.{len(trial.exploits)}": facts})


def close_trial(folder: RunFolder, trial: Trial, state: str) -> None:
    """Put where a trial stands into its outbox, the status last: where it stands, all the rest is there."""
    final = {name.removeprefix("val/"): value for name, value in trial.values.items()}
    why = f": {trial.message}" if trial.message else ""
    with Outbox(folder.path) as outbox:
        if final:
            outbox.tags({FINAL: final})
        outbox.tags({"sisr.state": state} | ({"sisr.message": trial.message} if trial.message else {}))
        outbox.tags({ENDED: f"{state} at step {trial.step:,}{why}"})
        outbox.status(MLFLOW_STATUS[state])


def close(folder: RunFolder, sweep: Sweep, best: Trial | None, written: Iterable[Path]) -> None:
    """Put what a sweep found and has written for people into its outbox; without a best trial it has failed."""
    with Outbox(folder.path) as outbox:
        if best is not None:
            values = {name.removeprefix("val/"): value for name, value in best.values.items()}
            outbox.tags({"sisr.best_trial": best.name, "sisr.best_params": best.params, "sisr.best": values})
        for path in written:
            outbox.artifact(path.relative_to(folder.path), "" if path.name == BEST else "results")
        outbox.tags({"sisr.state": sweep.state, "sisr.trials": len(sweep.trials)})
        nothing_found = sweep.state == "finished" and best is None
        outbox.status("FAILED" if nothing_found else MLFLOW_STATUS[sweep.state])


def break_off(folder: RunFolder, status: Status) -> None:
    """Record that a sweep or trial was broken off, if it counts as running.

    A trial whose process still holds its outbox is left to the courier, which sees when that is gone.
    """
    if is_open(folder):
        with suppress(RunLockedError), Outbox(folder.path) as outbox:
            outbox.status(status)


def is_open(folder: RunFolder) -> bool:
    """Return whether a sweep or trial counts as running in MLflow."""
    return (folder.path / OUTBOX).is_file() and last_status(folder.path) == "RUNNING"
