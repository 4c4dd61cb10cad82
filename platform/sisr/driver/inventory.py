"""What a folder of runs holds: which runs and sweeps, how far they are, and what they take. Loads no torch."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sisr.disk import atomic, lock
from sisr.disk.run_folder import LOCK, RECORD, RunFolder
from sisr.disk.sweep_folder import FILE, is_sweep
from sisr.errors import CheckpointError, ConfigError
from sisr.metrics.catalogue import value_of
from sisr.storage import ownership
from sisr.sweep import state as sweeps
from sisr.sweep.report import board
from sisr.terminal.console import note

FILES = (RECORD, FILE)  # what makes a folder a run's, or a sweep's
LISTED = (*FILES, "status.json", sweeps.LEDGER)  # of what an entry consists
POLL_S = 0.1


@dataclass(frozen=True)
class Entry:
    """One run or sweep, as its folder says."""

    name: str
    folder: Path
    kind: str  # run or sweep
    recipe: str
    state: str  # running, finished, stopped, diverged; interrupted: nobody is at work on it, and it has not ended
    progress: str  # steps done of all, or trials by state
    psnr_y: float | None  # dB, of the last validation, or of a sweep's best trial
    score: float | None
    data: str
    age_s: float  # since it last wrote
    size: int  # bytes on disk
    message: str  # why it ended, where that was no success


def entries(runs: Path) -> list[Entry]:
    """Return all runs and sweeps in a folder, the ones that wrote last first; what is damaged is among them.

    Raises:
        StorageError: They are in object storage, which does not answer.
    """
    ownership.refresh_all(runs, lambda path: path in LISTED)
    folders = {path.parent for name in FILES for path in runs.glob(f"*/{name}")}
    return sorted(map(entry, folders), key=lambda found: found.age_s)


def entry(folder: Path) -> Entry:
    """Return what the folder of one run or sweep says; of one whose files are damaged little but that."""
    try:
        return _sweep(folder) if is_sweep(folder) else _run(folder)
    except (CheckpointError, ConfigError, ValueError, TypeError, AttributeError, KeyError) as error:
        kind, age = "sweep" if is_sweep(folder) else "run", _age(folder, *FILES)
        return Entry(folder.name, folder, kind, "", "damaged", "", None, None, "", age, _size(folder), str(error))


def record(folder: Path) -> dict[str, Any]:
    """Return a run's record, or an empty one where it is damaged."""
    try:
        found = json.loads((folder / RECORD).read_text())
        return dict(found["run"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def stop(folder: Path, wait_s: float) -> bool:
    """Ask a run or sweep to save and end; return whether it has ended after at most `wait_s` seconds.

    Raises:
        ConfigError: Nobody is at work on it.
    """
    if not lock.is_held(folder / LOCK):
        owner = ownership.read_state(folder).owner
        where = f"is at work elsewhere, if at all ({owner}): stop it there" if owner else "is not running"
        raise ConfigError(f"{folder.name} {where}{'' if owner else ': there is nothing to stop'}")
    RunFolder(folder).request_stop()
    deadline = time.monotonic() + wait_s
    while lock.is_held(folder / LOCK):
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True


def remove(folder: Path) -> None:
    """Remove a run or sweep, with its checkpoints, models and samples, also from object storage.

    Raises:
        RunLockedError: Somebody is at work on it.
        StorageError: It lies in object storage, which can't be used.
    """
    with RunFolder(folder).lock():
        ownership.delete(folder, note)
        atomic.remove_folder(folder)


def _run(folder: Path) -> Entry:
    run, status = record(folder), RunFolder(folder).status()
    values = status.get("validation") or {}
    steps = status.get("steps") or run.get("config", {}).get("steps", 0)
    return Entry(
        name=folder.name,
        folder=folder,
        kind="run",
        recipe=str(run.get("recipe", "")),
        state=_state(folder, str(status.get("state", "running"))) if run else "damaged",
        progress=f"{int(status.get('step', 0)):,}/{int(steps):,}",
        psnr_y=value_of(values, "val/psnr_y"),
        score=value_of(values, "val/score"),
        data=str(run.get("data", "")),
        age_s=_age(folder, status.get("written_at"), RECORD, "status.json"),
        size=_size(folder),
        message=str(status.get("message", "")),
    )


def _sweep(folder: Path) -> Entry:
    sweep = sweeps.read(folder)
    best = sweep.best()
    values = best.values if best else {}
    return Entry(
        name=folder.name,
        folder=folder,
        kind="sweep",
        recipe=sweep.plan.recipe,
        state=_state(folder, sweep.state),
        progress=board.states(sweep),
        psnr_y=value_of(values, "val/psnr_y"),
        score=value_of(values, "val/score"),
        data=sweep.plan.data,
        age_s=_age(folder, _last_row_at(folder / sweeps.LEDGER), FILE, sweeps.LEDGER),
        size=_size(folder),
        message="",
    )


def _state(folder: Path, written: str) -> str:
    """Return a state as it is now: what a killed process wrote last is no longer true.

    Of a run in object storage whose owner is another machine nobody knows whether that lives.
    """
    if lock.is_held(folder / LOCK) or ownership.read_state(folder).owner:
        return "running"
    return "interrupted" if written == "running" else written


def _age(folder: Path, said: Any, *files: str) -> float:
    """Return how many seconds ago a folder was written, as its files say themselves, or as the disk does."""
    times = [(folder / name).stat().st_mtime for name in files if (folder / name).exists()]
    written = said if isinstance(said, int | float) else max(times, default=time.time())
    return max(0.0, time.time() - written)


def _last_row_at(ledger: Path) -> float | None:
    try:
        return float(json.loads(ledger.read_text().splitlines()[-1])["t"]) / 1000
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _size(folder: Path) -> int:
    """Return how many bytes the files of a folder take; those that vanish meanwhile take none.

    Of a copy of what lies in object storage, how many they take there.
    """
    if there := ownership.read_state(folder).bytes:
        return there
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_blocks * 512
            except OSError:
                continue
    return total
