"""What can be typed after a verb: commands that work when they are pasted. Loads no torch."""

import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sisr.disk.run_folder import RECORD, RunFolder
from sisr.metrics.catalogue import FEWEST, PSNR_Y, SCORE, metric
from sisr.storage.address import of_folder, of_run
from sisr.terminal.console import err

DEFAULT_RUNS = Path("runs")
Step = tuple[str, str]  # what it is for, and the command


def command(*words: str, runs: Path = DEFAULT_RUNS) -> str:
    """Return a command line of `sisr`, quoted for a shell, with `--runs` where they are not in the default folder."""
    place = of_folder(runs)
    where = [] if runs == DEFAULT_RUNS else ["--runs", place.written if place else str(runs)]
    return shlex.join(["sisr", *words, *where])


def lines(steps: Sequence[Step]) -> list[str]:
    """Return one line for each step, the commands below each other."""
    width = max((len(purpose) for purpose, _ in steps), default=0)
    return [f"{purpose}:{'':<{width - len(purpose)}}  {typed}" for purpose, typed in steps]


def show(steps: Sequence[Step]) -> None:
    """Write to stderr what can be done next; commands are not broken where a terminal is narrow."""
    for line in lines(steps):
        err.print(line, markup=False)


def to_find_sisr() -> list[Step]:
    """Return what to type first in a shell that does not know the command `sisr`, as after `make demo`."""
    activate = Path(sys.executable).with_name("activate")
    if shutil.which("sisr") or not activate.is_file():
        return []
    near = activate.relative_to(Path.cwd()) if activate.is_relative_to(Path.cwd()) else activate
    return [("first", f". {shlex.quote(str(near))}")]


def after_run(folder: Path) -> list[Step]:
    """Return what can be done with the model of a finished run; nothing where its record is damaged."""
    try:
        record = json.loads((folder / RECORD).read_text())
        run, facts = dict(record["run"]), dict(record.get("data", {}))
        data, steps = str(run.get("validation") or run["data"]), int(run["config"]["steps"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    runs, name, found = folder.parent, folder.name, list[Step]()
    if loses := _loses(folder):
        longer = ("--name", name, "--steps", str(2 * steps))
        found.append(("train on (no better than bicubic yet)", command("train", "--from", name, *longer, runs=runs)))
    count = 0 if "://" in data else facts.get("held_out_of", 0)
    if count > 1:
        found.append(("compare", command("compare", name, "bicubic", "--data", data, runs=runs)))
    if count >= FEWEST and not loses:
        found.append(("register", command("register", name, "--data", data, runs=runs)))
    found.append(("try it", command("serve", name, runs=runs)))
    return [*to_bring_home(folder), *found, ("watch it", command("animate", name, runs=runs))][:3]


def _loses(folder: Path) -> bool:
    """Return whether a run's model is known to be no better than bicubic on its own held-out images.

    By the metric that decides for its recipe; the score of bicubic is 0.
    """
    status = RunFolder(folder).status()
    by = str(status.get("best", {}).get("by", PSNR_Y.name)).removeprefix("val/")
    reached = status.get("validation", {}).get(f"val/{by}")
    bicubic = 0.0 if by == SCORE.name else status.get("baseline", {}).get(by)
    return reached is not None and bicubic is not None and metric(by).gain(reached, bicubic) <= 0


def to_bring_home(folder: Path) -> list[Step]:
    """Return the command that fetches a run or sweep from object storage; nothing for one that is not there."""
    place = of_run(folder)
    return [("bring it home", command("pull", place.written, place.name))] if place else []


def to_go_on(folder: Path) -> list[Step]:
    """Return the command by which a run that ended before its end goes on."""
    return [("go on", command("train", "--from", folder.name, "--name", folder.name, runs=folder.parent))]


def judged_by(data: str, perceptual: str) -> list[str]:
    """Return the words that name images, and the distance where it is not that which is chosen anyway."""
    return ["--data", data, *([] if perceptual == "auto" else ["--perceptual", perceptual])]


def after_comparison(best: str, metric: str, judged: Sequence[str], runs: Path) -> list[Step]:
    """Return what can be done with the best of the models compared.

    Args:
        best: What names it, as `promising.best_candidate` finds it; empty where there is none.
        metric: By which it is the best, for people.
        judged: Words as of `judged_by`.
        runs: Holds all runs.
    """
    typed = command("register", best.removeprefix("runs:/"), *judged, runs=runs)
    return [(f"register the best by {metric}", typed)] if best else []


def after_evaluation(specs: Sequence[str], best: str, judged: Sequence[str], runs: Path) -> list[Step]:
    """Return what can be done with the models measured: nothing if they are no run's and no registered ones.

    `specs` name them; for the others see `after_comparison`.
    """
    ours = [spec for spec in specs if spec.startswith("models:") or (runs / spec / "run.json").is_file()]
    if not ours:
        return []
    found = [("look at it", command("compare", *dict.fromkeys([*ours, "bicubic"]), *judged, runs=runs))]
    if len(ours) > 1:
        return found
    register = [("register it", command("register", best, *judged, runs=runs))] if best else []
    return [*found, *register, ("try it", command("serve", ours[0], runs=runs))]


def after_upscaling(image: Path, model: str, compared: bool, runs: Path) -> list[Step]:
    """Return what can be done after an image or a folder was enlarged by a model, `compared` with bicubic or not."""
    if model == "bicubic":
        return []
    words = ("upscale", str(image), "--model", model, "--compare", "--overwrite")
    beside = [] if compared else [("beside bicubic", command(*words, runs=runs))]
    return [*beside, ("try others", command("serve", model, runs=runs))]


def after_packing(data: str, validation: str | None) -> list[Step]:
    """Return what can be done with packed images."""
    held_out = ["--validation", validation] if validation else []
    words = ("train", "pixelshuffle", "--data", data, *held_out, "--preset", "cpu")
    return [("train on them", command(*words)), ("or another recipe", command("recipes"))]


def after_registration(result: dict[str, Any], runs: Path) -> list[Step]:
    """Return what can be done with a champion."""
    model = f"models:/{result['model']}@champion"
    return [("try it", command("serve", model, runs=runs))]
