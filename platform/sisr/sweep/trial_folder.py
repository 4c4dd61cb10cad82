"""What reports of a sweep read in the folders of its trials."""

from pathlib import Path
from typing import Any

from sisr.disk.run_folder import RunFolder
from sisr.disk.sweep_folder import TRIALS
from sisr.sweep.state import Sweep, Trial


def folder_of(folder: Path, trial: Trial) -> Path:
    """Return the run folder of a trial of the sweep in `folder`."""
    return folder / TRIALS / trial.name


def status(folder: Path, trial: Trial) -> dict[str, Any]:
    """Return a trial's last status; empty where there is none yet."""
    return RunFolder(folder_of(folder, trial)).status()


def baseline(folder: Path, sweep: Sweep) -> dict[str, float]:
    """Return bicubic's values by metric, such as {"val/psnr_y": 25.1}, from the best trial that has them."""
    for trial in [*sweep.ranking(), *sweep.trials]:
        found = status(folder, trial).get("baseline")
        if isinstance(found, dict) and found:
            return {f"val/{name}": float(value) for name, value in found.items() if isinstance(value, int | float)}
    return {}
