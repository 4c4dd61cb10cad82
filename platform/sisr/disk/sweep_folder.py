"""Where the outboxes of a sweep lie: its own, and one in the folder of each trial."""

from pathlib import Path

FILE = "sweep.json"  # what makes a folder a sweep's
TRIALS = "trials"


def is_sweep(folder: Path) -> bool:
    """Whether a folder is a sweep's."""
    return (folder / FILE).is_file()


def trials(folder: Path) -> list[Path]:
    """Return the folders of a sweep's trials, in order; none for a single run."""
    if not is_sweep(folder):
        return []
    return sorted(path for path in (folder / TRIALS).glob("*") if path.is_dir())


def sweep_of(run_dir: Path) -> Path | None:
    """Return the folder of the sweep that a run is a trial of; `None` for a run of its own."""
    folder = run_dir.resolve()
    sweep = folder.parent.parent
    return sweep if folder.parent.name == TRIALS and is_sweep(sweep) else None


def run_name(run_dir: Path) -> str:
    """Return what MLflow calls a run: its folder's name, for a trial behind its sweep's."""
    sweep, name = sweep_of(run_dir), run_dir.resolve().name
    return name if sweep is None else f"{sweep.name}/{name}"
