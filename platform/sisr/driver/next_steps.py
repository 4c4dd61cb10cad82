"""What can be typed after a verb: commands that work when they are pasted. Loads no torch."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sisr.data.sources import LAYOUTS
from sisr.disk.run_folder import RECORD
from sisr.metrics.catalogue import FEWEST
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


def after_run(folder: Path) -> list[Step]:
    """Return what can be done with the model of a finished run; nothing where its record is damaged."""
    try:
        record = json.loads((folder / RECORD).read_text())
        run, facts = dict(record["run"]), dict(record.get("data", {}))
        own, data = run.get("validation") is None, str(run.get("validation") or run["data"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    runs, name, found = folder.parent, folder.name, list[Step]()
    if not own or _reads_as_held_out(data):
        found.append(("compare", command("compare", name, "bicubic", "--data", data, runs=runs)))
    if "://" not in data and facts.get("held_out_of", 0) >= FEWEST:
        found.append(("register", command("register", name, "--data", data, runs=runs)))
    found.append(("try it", command("serve", name, runs=runs)))
    return [*to_bring_home(folder), *found, ("watch it", command("animate", name, runs=runs))][:3]


def to_bring_home(folder: Path) -> list[Step]:
    """Return the command that fetches a run or sweep from object storage; nothing for one that is not there."""
    place = of_run(folder)
    return [("bring it home", command("pull", place.written, place.name))] if place else []


def to_go_on(folder: Path) -> list[Step]:
    """Return the command by which a run that ended before its end goes on."""
    return [("go on", command("train", "--from", folder.name, "--name", folder.name, runs=folder.parent))]


def after_comparison(best: str, num_images: int, data: str, runs: Path) -> list[Step]:
    """Return what can be done with the best of the models compared: nothing if it is no run's."""
    if best in ("", "bicubic") or best.startswith("models:") or num_images < FEWEST:
        return []
    return [("register the best", command("register", best, "--data", data, runs=runs))]


def after_evaluation(specs: Sequence[str], num_images: int, data: str, runs: Path) -> list[Step]:
    """Return what can be done with the models measured: nothing if they are no run's and no registered ones."""
    ours = [spec for spec in specs if spec.startswith("models:") or (runs / spec / "run.json").is_file()]
    if not ours:
        return []
    found = [("look at it", command("compare", *dict.fromkeys([*ours, "bicubic"]), "--data", data, runs=runs))]
    if len(ours) > 1:
        return found
    return [
        *found,
        *after_comparison(ours[0], num_images, data, runs),
        ("try it", command("serve", ours[0], runs=runs)),
    ]


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


def _reads_as_held_out(data: str) -> bool:
    """Return whether verbs that judge models take of these images only those that are held out."""
    kind, colon, _ = data.partition(":")
    return data == "demo" or (bool(colon) and kind in LAYOUTS and kind != "pairs")
