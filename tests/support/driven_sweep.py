"""A sweep's real driver, files and outboxes, whose slices train nothing: a network is the story of its settings."""

import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from sisr.cluster.tune import Outcome, Task
from sisr.disk.run_folder import RunFolder
from sisr.driver.sweep.driver import Driver
from sisr.driver.sweep.execute import Order, Wanted, plan_of
from sisr.sweep import plan as plans
from sisr.sweep.ledger import Ledger
from sisr.sweep.report import results
from sisr.sweep.state import Sweep
from sisr.training.checkpoint import folder_name
from sisr.training.dataset import TrainingData

EVERY = 5  # steps from one evaluation to the next
Score = Callable[[float, int], float]  # (learning rate, step) -> dB; NaN: it diverges there


def rising(rate: float, step: int) -> float:
    """Better with every step, and best at 1e-3."""
    return 20 + math.sqrt(step) - abs(math.log10(rate) + 3)


class Host:
    """Runs a sweep's slices one after the other, in this process."""

    def __init__(
        self, runs: Path, score: Score = rising, bad: Callable[[float, int], bool] = lambda *_: False, **asked: Any
    ):
        """Plan a sweep.

        Args:
            runs: Holds its folder.
            score: What a trial measures.
            bad: Whether a step leaves a network that is not worth a checkpoint.
            asked: As in `Wanted`.
        """
        fixed = ("schedule", "warmup_steps", "beta1", "beta2", "zero_last")
        asked = {"search": "random"} | asked
        wanted = Wanted(
            recipe="pixelshuffle",
            name="s",
            settings=("hr_crop=32",),
            space=("learning_rate=loguniform(1e-5, 1e-1)", *(f"{name}=" for name in fixed)),
            options={"evaluate_every": EVERY},
            **asked,
        )
        plan, space = plan_of(wanted)
        self.order, self.folder = Order(plan=plan, space=space, runs=runs), RunFolder(runs / "s")
        self.folder.path.mkdir(parents=True, exist_ok=True)
        plans.write(self.folder.path, plan, {})
        self.score, self.bad = score, bad
        self.slices: list[tuple[int, int, int]] = []  # (trial, from step, to step)

    @contextmanager
    def driver(self) -> Iterator[Driver]:
        """Drive the sweep as a new process would."""
        ledger = Ledger(self.folder.path)
        try:
            data = cast(TrainingData, SimpleNamespace(facts={}))
            yield Driver(self.order, self.folder, data, ledger)
        finally:
            ledger.close()

    def run(self, interrupt: Callable[[Task, int], None] = lambda *_: None) -> Sweep:
        """Run the sweep to its end, or until it is asked to stop, and close it; `interrupt` is told every step."""
        with self.driver() as driver:
            driver.take_up()
            while (task := driver.next_task()) is not None:
                driver.ended(task, self.slice(task, interrupt))
            driver.close()
            return driver._sweep

    def slice(self, task: Task, interrupt: Callable[[Task, int], None] = lambda *_: None) -> Outcome:
        """Do what the training loop does, from the newest checkpoint on."""
        folder, rate = RunFolder(task.folder), float(task.run.config["learning_rate"])
        newest = max(folder.checkpoints.glob("step_*/manifest.json"), default=None)
        saved: dict[str, Any] = json.loads(newest.read_text()) if newest else {"step": 0, "story": []}
        first, story = saved["step"], saved["story"]
        step = first
        for step in range(first + 1, task.until + 1):
            due, stop = step % EVERY == 0 or step == self.order.plan.steps, step == task.until
            interrupt(task, step)
            stop = stop or self.folder.stop_requested()
            if due:
                value = self.score(rate, step)
                if math.isnan(value):
                    return Outcome(state="diverged", step=step, message="not a number")
                folder.add_evaluation(step, {"val/psnr_y": value})
            if (due or stop) and not self.bad(rate, step):
                self.save(folder, step, [*story, [rate, first, step]])
            if stop:
                break
        self.slices.append((task.trial, first, step))
        return Outcome(state="finished" if step == self.order.plan.steps else "paused", step=step)

    def save(self, folder: RunFolder, step: int, story: list[Any]) -> None:
        """Leave a checkpoint, whole or not at all."""
        unfinished, final = folder.checkpoints / ".unfinished", folder.checkpoints / folder_name(step)
        unfinished.mkdir(parents=True, exist_ok=True)
        (unfinished / "manifest.json").write_text(json.dumps({"step": step, "story": _joined(story)}))
        if not final.exists():
            unfinished.rename(final)
        for old in sorted(folder.checkpoints.glob("step_*"))[:-2]:
            (old / "manifest.json").unlink()
            old.rmdir()


def _joined(story: list[Any]) -> list[Any]:
    """Return a story as if nobody had ever interrupted it."""
    *earlier, last = story
    if earlier and earlier[-1][0] == last[0] and earlier[-1][2] == last[1]:
        return [*earlier[:-1], [last[0], earlier[-1][1], last[2]]]
    return story


class Kills:
    """Keeps what a folder looks like before each file operation: what SIGKILL there would leave for the next process.

    Python's own audit of file operations tells of them.
    """

    CHANGING = ("os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir")

    def __init__(self) -> None:
        """Watch nothing yet; a hook can't be taken away again."""
        self._folder: Path | None = None
        self._kept: list[Path] = []
        self._last: dict[str, bytes | None] = {}
        sys.addaudithook(self._look)

    def of(self, folder: Path, work: Callable[[], object], into: Path) -> list[Path]:
        """Do some work on a folder, and return copies of it, no two in a row alike, that it was broken off in."""
        self._folder, self._into, self._kept, self._last = folder, into, [], {}
        try:
            work()
        finally:
            self._folder = None
        return self._kept

    def _look(self, event: str, arguments: tuple[Any, ...]) -> None:
        folder = self._folder
        if folder is None or not (event in self.CHANGING or (event == "open" and _for_writing(arguments))):
            return
        self._folder = None  # our own operations don't count
        files = {str(path.relative_to(folder)): _content(path) for path in sorted(folder.rglob("*"))}
        if files != self._last:
            self._last = files
            self._kept.append(self._into / str(len(self._kept)))
            shutil.copytree(folder, self._kept[-1])
        self._folder = folder


def _for_writing(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    return bool(set(mode) & set("wax+")) if isinstance(mode, str) else bool(flags & (os.O_WRONLY | os.O_RDWR))


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def write_page(folder: Path, sweep: Sweep) -> list[Path]:
    """Stand in for `results.write`, whose pictures take a second."""
    path = folder / results.FOLDER / "index.html"
    path.parent.mkdir(exist_ok=True)
    path.write_text(sweep.state)
    return [path]
