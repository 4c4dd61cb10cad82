"""What a sweep keeps on the disk besides its ledger: checkpoints to copy, and the best settings.

Everything here can be done twice, and broken off anywhere.
"""

import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

import yaml

from sisr.disk import atomic
from sisr.disk.run_folder import RunFolder
from sisr.errors import CheckpointError
from sisr.sweep.plan import Plan
from sisr.sweep.state import Sweep, Trial
from sisr.training.checkpoint import Checkpoints, folder_name
from sisr.training.checkpoint_files import MANIFEST
from sisr.training.options import Options

BEST = "best.yaml"
PINNED = "pinned"  # a trial's checkpoint at the end of its last slice, kept for others to copy
COPIES = ".copies"  # how many copies of other trials a trial's checkpoints hold already


def is_saved(folder: RunFolder, step: int) -> bool:
    """Return whether a trial has a whole checkpoint of a step: none is written of a bad step, or on a full disk."""
    return (folder.checkpoints / folder_name(step) / MANIFEST).is_file()


def hand_on_init(sweep: RunFolder, trial: RunFolder) -> None:
    """Give a trial the first weights of its sweep, if it has any, by hard links."""
    for given, own in ((sweep.init, trial.init), (sweep.init_judge, trial.init_judge)):
        if given.is_file() and not own.exists():
            os.link(given, own)


def pin(folder: RunFolder, step: int) -> None:
    """Keep the checkpoint of a slice's end until the next one's, whatever is pruned meanwhile; by hard links."""
    name = folder_name(step)
    if (folder.path / PINNED / name).is_dir() or not is_saved(folder, step):
        return
    with atomic.folder(folder.path / PINNED) as fresh:
        shutil.copytree(folder.checkpoints / name, fresh / name, copy_function=os.link)


def copy_networks(folder: RunFolder, donor: RunFolder, step: int) -> None:
    """Put a checkpoint that another trial has pinned in the place of a trial's own.

    Raises:
        CheckpointError: It is not there.
    """
    pinned = donor.path / PINNED / folder_name(step)
    if not pinned.is_dir():
        raise CheckpointError(f"{pinned} is gone, which trial {folder.path.name} copies: restore it")
    with atomic.folder(folder.checkpoints) as fresh:
        shutil.copytree(pinned, fresh / pinned.name, copy_function=os.link)
        shutil.rmtree(folder.path / PINNED, ignore_errors=True)  # the trial is no longer what others could have copied
        folder.best.unlink(missing_ok=True)


def copies_made(folder: RunFolder) -> int:
    """Return how many copies of other trials a trial's checkpoints hold already."""
    path = folder.path / COPIES
    return int(path.read_text()) if path.is_file() else 0


def note_copies(folder: RunFolder, copies: int) -> None:
    """Note that all that belongs to a copy is done."""
    atomic.write_text(folder.path / COPIES, str(copies))


def drop_checkpoints(folder: RunFolder, *, keep_newest: bool) -> None:
    """Free the disk of what a finished sweep doesn't need: the model of a finished trial is kept beside it."""
    if keep_newest:  # more trials may be asked for, and then this one may be promoted
        Checkpoints(folder.checkpoints, keep=1).prune(None)
    else:
        shutil.rmtree(folder.checkpoints, ignore_errors=True)
    shutil.rmtree(folder.path / PINNED, ignore_errors=True)


def write_best(folder: Path, sweep: Sweep, best: Trial, recipe: str) -> Path:
    """Write the best trial's settings as a file for `sisr train RECIPE --config`, and return its path.

    What only made the trials cheap stands apart, as comments: the recipe's own values hold.
    """
    plan, path = sweep.plan, folder / BEST
    values = ", ".join(f"{name} {value:.5g}" for name, value in best.values.items())
    fixed = {name: value for name, value in plan.fixed.items() if name != "steps"}
    kept = {name: value for name, value in fixed.items() if name not in plan.cheap}
    lines = [
        f"# {plan.recipe}: the best of {len(sweep.trials)} trials of sweep {plan.name}: trial {best.name}",
        f"# at step {best.evaluated_at:,} of {plan.steps:,}: {values}",
        # As typed beside the default folder of runs, wherever this one is: the file is the same everywhere.
        f"# {train_command(plan, Path('runs', plan.name or plan.recipe), recipe)}",
        *([f"# The trials began with {plan.init}."] if plan.init else []),
        *([f"# Their judge began with {plan.init_judge}."] if plan.init_judge else []),
        "# Searched:",
        _lines(best.params),
        *(["# Fixed in all trials:", _lines(kept)] if kept else []),
        *(["# Of the full run, as asked for:", _lines(plan.at_full_size)] if plan.at_full_size else []),
    ]
    if cheap := {name: value for name, value in fixed.items() if name in plan.cheap}:
        lines.append(
            f"# Fixed only to make the trials cheap; {'those above or ' if plan.at_full_size else ''}the recipe's own "
            "values hold. As in the trials, without #:"
        )
        lines.append("\n".join(f"# {line}" for line in _lines(cheap).splitlines()))
    atomic.write_text(path, "\n".join(lines) + "\n")
    return path


def train_command(plan: Plan, folder: Path, recipe: str) -> str:
    """Return the command that trains a full run with the best settings of the sweep in a folder, on its images."""
    words = ["sisr", "train", recipe, "--config", str(folder / BEST), "--data", plan.data]
    words += ["--validation", plan.validation] if plan.validation else []
    words += [word for name, spec in plan.validation_sets.items() for word in ("--validation", f"{name}={spec}")]
    sweep = RunFolder(folder)
    words += ["--init", str(sweep.init)] if plan.init else []
    words += ["--init-partly"] if plan.init_partly else []
    words += ["--init-judge", str(sweep.init_judge)] if plan.init_judge else []
    for name, value in full_options(plan).items():
        if value != Options.model_fields[name].default:
            words += ["--option", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    return " ".join(map(shlex.quote, words))


def full_options(plan: Plan) -> dict[str, Any]:
    """Return the options that a full run has like the trials; how often it is evaluated is its own."""
    return {name: value for name, value in plan.options.items() if name != "evaluate_every"}


def _lines(settings: dict[str, Any]) -> str:
    return yaml.safe_dump(settings, sort_keys=True).rstrip("\n")
