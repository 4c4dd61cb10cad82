"""What a sweep keeps on the disk besides its ledger."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import yaml

from sisr.sweep.state import Sweep, Trial
from sisr.training.checkpoint import folder_name
from sisr.training.folder import RunFolder

BEST = "best.yaml"
PINNED = "pinned"  # a trial's checkpoint at the end of its last slice, kept for others to copy
COPIES = ".copies"  # how many copies of other trials a trial's checkpoints hold already


def pin(folder: RunFolder, step: int) -> None:
    """Keep the checkpoint of a slice's end until the next one's, whatever is pruned meanwhile; by hard links."""
    name = folder_name(step)
    fresh = folder.path / f".{PINNED}-new"
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(folder.checkpoints / name, fresh / name, copy_function=os.link)
    shutil.rmtree(folder.path / PINNED, ignore_errors=True)
    fresh.rename(folder.path / PINNED)


def copy_networks(folder: RunFolder, donor: RunFolder, copies: int, record: Callable[[], object]) -> None:
    """Put what the donor has pinned in the place of a trial's checkpoints, unless that was done.

    Args:
        folder: Of the trial.
        donor: Of the trial that it copies.
        copies: How many copies it has made, this one included.
        record: Writes down the settings that hold now.
    """
    done = folder.path / COPIES
    if done.is_file() and int(done.read_text()) >= copies:
        return
    fresh = folder.path / f".{PINNED}"
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(donor.path / PINNED, fresh, copy_function=os.link)
    shutil.rmtree(folder.checkpoints, ignore_errors=True)
    folder.best.unlink(missing_ok=True)
    fresh.rename(folder.checkpoints)
    record()
    done.write_text(str(copies))


def drop_checkpoints(folder: RunFolder) -> None:
    """Free the disk of what a finished sweep doesn't need: the model of a finished trial is kept beside it."""
    shutil.rmtree(folder.checkpoints, ignore_errors=True)
    shutil.rmtree(folder.path / PINNED, ignore_errors=True)


def write_best(folder: Path, sweep: Sweep, best: Trial) -> Path:
    """Write the best trial's settings as a file for `sisr train RECIPE --config`, and return its path."""
    plan, path = sweep.plan, folder / BEST
    values = ", ".join(f"{name} {value:.5g}" for name, value in best.values.items())
    settings = {name: value for name, value in plan.fixed.items() if name != "steps"} | best.params
    header = [
        f"# {plan.recipe}: the best of {len(sweep.trials)} trials of sweep {plan.name}: trial {best.name}",
        f"# at step {best.step:,}: {values}",
        f"# sisr train {plan.recipe} --config {BEST} --data ... ; --steps N: the sweep's trials had {plan.steps:,}",
    ]
    unfinished = folder / f".{BEST}"
    unfinished.write_text("\n".join(header) + "\n" + yaml.safe_dump(settings, sort_keys=True))
    unfinished.replace(path)
    return path
