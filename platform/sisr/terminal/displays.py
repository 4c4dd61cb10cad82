"""Shows how far a run is, from its `status.json`: live lines on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Mapping
from math import nan
from typing import Any

from rich.live import Live
from rich.text import Text

from sisr.config.wording import printable
from sisr.disk.run_folder import RunFolder
from sisr.metrics.catalogue import ALWAYS, DISTANCES, FURTHER, SCORE
from sisr.terminal.console import DAY_S, PLAIN_WIDTH, SAID_AFTER_S, duration, err, joined, note, note_progress

PLAIN_EVERY_S = 10.0
LOSSES_SHOWN = 4
TOO_LONG_S = 7 * DAY_S
WAITING_SHOWN = 0.05  # share of the time spent waiting for images from which on it is shown


class Display:
    """A run's progress on stderr; use as a context manager and call `refresh` now and then."""

    def __init__(self, folder: RunFolder, shorter: str = "", aside: Callable[[], str] | None = None) -> None:
        """Show the run in a folder; `shorter`: see `estimate`; `aside` returns what else to show, or nothing."""
        self._aside = aside or (lambda: "")
        self._folder, self._shorter = folder, shorter
        self._live = Live(console=err, refresh_per_second=2, transient=True) if err.is_terminal else None
        self._last: tuple[dict[str, Any], bool] = ({}, False)
        self._shown_at = 0.0
        self._warned = len(folder.warnings())  # those of earlier attempts were shown then
        self._shown_validation = -1
        self._earlier = folder.status()  # what an earlier attempt has left
        self._stage, self._stage_began, self._said = "", 0.0, False
        self._facts_said: set[str] = set()

    def __enter__(self) -> "Display":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.refresh()
        if self._live:
            self._live.stop()

    def refresh(self) -> None:
        """Show what the run's folder says now."""
        for text in self._folder.warnings()[self._warned :]:
            self._warned += 1
            note(f"warning: {text}")
        status = self._folder.status()
        self._say_stage(status)
        saving = self._folder.stop_requested()
        # A run that ended before its first step, as one that found no room, has none; its message is the command's.
        if "step" not in status or (status, saving) == self._last:
            return
        self._last = status, saving
        has_begun = status.get("state", "running") == "running" or status.get("step") != self._earlier.get("step")
        if status != self._earlier and has_begun:
            self._say_facts(status)
        step = status.get("validation_step", -1)
        if step != self._shown_validation and has_begun:
            self._shown_validation = step
            values = plain(status.get("validation", {}))
            note_progress(f"step {step:,}: {quality(values)}")
            for name, found in by_set(values).items():
                note_progress(f"  {name}: {quality(found)}")
        if self._live:
            judged = [validation(status)] if status.get("validation") else []
            shown = joined([*parts(status, saving=saving), *judged, *filter(None, [self._aside()])], err.width)
            self._live.update(Text(printable(shown, keep="\n")))
        elif _is_moving(status) and time.monotonic() - self._shown_at >= PLAIN_EVERY_S:
            self._shown_at = time.monotonic()
            note_progress(joined([*parts(status), *filter(None, [self._aside()])], PLAIN_WIDTH))

    def _say_facts(self, status: dict[str, Any]) -> None:
        """Say once where it is trained and how good bicubic is, and how long it will take as soon as that is known."""
        texts = {
            "where": f"trained on: {status.get('where')}",
            "baseline": "\n  ".join(_of_bicubic(status.get("baseline", {}))),
            "estimate": estimate(status, self._shorter) if "estimate" in status else "",
        }
        for name, text in texts.items():
            is_old = name == "estimate" and status.get(name) == self._earlier.get(name)
            if status.get(name) and name not in self._facts_said and not is_old:
                self._facts_said.add(name)
                note_progress(text)

    def _say_stage(self, status: dict[str, Any]) -> None:
        """Say once of what comes before the first step that it takes its time."""
        if status == self._earlier:
            stage = "starting the workers"
        else:
            stage = "" if status.get("validation") or _is_moving(status) else "validating for the first time"
        if stage != self._stage:
            self._stage, self._stage_began, self._said = stage, time.monotonic(), False
        if stage and not self._said and time.monotonic() - self._stage_began >= SAID_AFTER_S:
            self._said = True
            note(f"{stage} ...")


def parts(status: dict[str, Any], *, saving: bool = False) -> list[str]:
    """Return a run's progress: step, time left, rate, losses, and waiting for data that matters.

    `saving`: it was asked to stop, and ends after this step.
    """
    found = [f"step {status['step']:,}/{status['steps']:,}"]
    if saving:
        found.append("saving")
    elif _is_moving(status):
        found += [f"{duration(status['eta_s'])} left", f"{status['images_per_second']:.1f} images/s"]
        if (waiting := status.get("data_wait_share", 0.0)) >= WAITING_SHOWN:
            found.append(f"waiting for data {waiting:.1%}")
    losses = status.get("losses", {}).items()
    shown = [(name, value) for name, value in losses if not name.startswith("gradient_norm")]
    return [*found, *(f"{name} {value:.4g}" for name, value in shown[:LOSSES_SHOWN])]


def estimate(status: dict[str, Any], shorter: str = "") -> str:
    """Return how long a run will still take and how much memory it needs, by its first steps; a warning if too long.

    `shorter` says, as the end of that warning, how the run is made shorter.
    """
    found = status["estimate"]
    seconds, left = found["seconds"], status["steps"] - found["step"]
    memory = f"{found['memory_bytes'] / 2**30:.1f} GiB of memory"
    if seconds < TOO_LONG_S:
        return f"after {found['step']:,} steps: about {duration(seconds)} of training left, {memory}"
    hour = max(1, int(3600 * left / seconds))
    return (
        f"warning: after {found['step']:,} steps: the other {left:,} will take about {duration(seconds)} here, and "
        f"{memory}. --steps {hour:,} take an hour{shorter}"
    )


def _is_moving(status: Mapping[str, Any]) -> bool:
    return status.get("state", "running") == "running" and "images_per_second" in status


def validation(status: dict[str, Any]) -> str:
    """Return the last validation in words."""
    return f"held-out images {quality(plain(status.get('validation', {})))}"


def quality(values: Mapping[str, float]) -> str:
    """Return what was measured in words, such as `28.99 dB PSNR-Y, 0.8123 SSIM-Y, lpips 0.2104, score +0.312`.

    Args:
        values: Metrics by name; besides PSNR and SSIM one perceptual distance and a score, or neither.
    """
    pixels = [f"{metric.text(values.get(metric.name, nan))} {metric.title}" for metric in ALWAYS]
    others = [metric for metric in (*DISTANCES, *FURTHER, SCORE) if metric.name in values]
    return ", ".join([*pixels, *(f"{m.name} {m.text(values[m.name], signed=m is SCORE)}" for m in others)])


def _of_bicubic(values: Mapping[str, float]) -> list[str]:
    sets = [f"{name}: {quality(found)}" for name, found in by_set(values).items()]
    return [f"held-out images, by bicubic: {quality(values)}", *sets]


def by_set(values: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Return the metrics of each further validation set: of `set5/psnr_y` under `set5`, by their names alone."""
    found: dict[str, dict[str, float]] = {}
    for name, value in values.items():
        prefix, slash, metric = name.rpartition("/")
        if slash:
            found.setdefault(prefix, {})[metric] = value
    return found


def plain(values: Mapping[str, Any]) -> dict[str, float]:
    """Return metrics by their names without `val/`."""
    return {name.removeprefix("val/"): value for name, value in values.items() if name.startswith("val/")}
