"""A sweep's real driver, ledger, outboxes and checkpoints in one process; a trial's network is the story of its steps.

Hundreds of interrupted sweeps are replayed, so nothing is trained: this host does what a `SweepHost` promises of a
slice (evaluations in the trial's folder, whole checkpoints where they are due, and how it ended).
"""

import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from sisr.disk.run_folder import RunFolder
from sisr.driver.sweep.driver import Driver
from sisr.driver.sweep.host import SliceEnd, SliceSource, Task
from sisr.driver.sweep.planning import plan_of
from sisr.sweep import plan as plans
from sisr.sweep.ledger import Ledger
from sisr.sweep.report import results
from sisr.sweep.space.file import SearchSpace
from sisr.sweep.state import Sweep
from sisr.training.checkpoint import Checkpoints
from sisr.training.checkpoint_files import load_state

EVERY = 5  # steps from one evaluation to the next
Score = Callable[[float, int], float]  # (learning rate, step) -> dB; NaN: it diverges there


def rising(rate: float, step: int) -> float:
    """Better with every step, and best at 1e-3."""
    return 20 + math.sqrt(step) - abs(math.log10(rate) + 3)


class SteppingHost:
    """Runs a sweep's slices one after the other, in this process."""

    workers = 1

    def __init__(
        self,
        runs: Path,
        score: Score = rising,
        bad: Callable[[float, int], bool] = lambda *_: False,
        *,
        scheduler: str = "asha",
        scheduler_options: dict[str, Any] | None = None,
        **changes: Any,
    ):
        """Plan a sweep.

        Args:
            runs: Holds its folder.
            score: What a trial measures.
            bad: Whether a step leaves a network that is not worth a checkpoint.
            scheduler: Its scheduler.
            scheduler_options: Of it.
            changes: Of the plan, such as `trials` and `steps`.
        """
        changes = {"search": "random", "scheduler": scheduler, **changes}
        self.plan, self.space = _planned(json.dumps([changes, scheduler_options]))
        self.folder = RunFolder(runs / "s")
        self.folder.path.mkdir(parents=True, exist_ok=True)
        plans.write(self.folder.path, self.plan, {})
        self.score, self.bad = score, bad
        self.held_out: list[str] = []  # names of images
        self.slices: list[tuple[int, int, int]] = []  # (trial, from step, to step)
        self.interrupt: Callable[[Task, int], None] = lambda *_: None  # called at every step

    @contextmanager
    def driver(self) -> Iterator[Driver]:
        """Drive the sweep as a new process would."""
        ledger = Ledger(self.folder.path)
        try:
            yield Driver(self.folder, ledger, self.space, "pixelshuffle", {}, self.held_out)
        finally:
            ledger.close()

    def search(self, interrupt: Callable[[Task, int], None] | None = None) -> Sweep:
        """Run the sweep to its end, or until it is asked to stop, and close it."""
        self.interrupt = interrupt or self.interrupt
        with self.driver() as driver:
            driver.take_up()
            self.run(driver, self.folder.path, self.plan.trials)
            driver.close()
            return driver._sweep

    def run(self, source: SliceSource, folder: Path, trials: int) -> None:
        while (task := source.next_task()) is not None:
            source.ended(task, self.slice(task))

    def close(self) -> None:
        """Do nothing: nothing runs."""

    def slice(self, task: Task) -> SliceEnd:
        """Go on from the newest checkpoint to the slice's end, or until the sweep is asked to stop."""
        folder, rate = RunFolder(task.folder), float(task.run.config["learning_rate"])
        checkpoints = Checkpoints(folder.checkpoints)
        newest = checkpoints.newest()
        saved: dict[str, Any] = newest[1] if newest else {"step": 0, "story": []}
        step = first = saved["step"]
        for step in range(first + 1, task.until + 1):
            due, stop = step % EVERY == 0 or step == self.plan.steps, step == task.until
            self.interrupt(task, step)
            stop = stop or self.folder.stop_requested()
            if due:
                value = self.score(rate, step)
                if math.isnan(value):
                    return SliceEnd(state="diverged", step=step, message="not a number", error="DivergedError")
                folder.add_evaluation(step, {"val/psnr_y": value})
            if (due or stop) and not self.bad(rate, step):
                story = _joined([*saved["story"], [rate, first, step]])
                checkpoints.save(step, {"step": step, "story": story}, lambda path: None, {})
                checkpoints.prune(None)
            if stop:
                break
        self.slices.append((task.trial, first, step))
        return SliceEnd(state="finished" if step == self.plan.steps else "paused", step=step)


@cache  # planning checks networks of each shape, and hundreds of hosts have the same plan
def _planned(asked: str) -> tuple[plans.Plan, SearchSpace]:
    changes, scheduler_options = json.loads(asked)
    fixed = ("schedule", "warmup_steps", "beta1", "beta2", "zero_last")
    return plan_of(
        "pixelshuffle",
        name="s",
        settings=("hr_crop=32",),
        space=("learning_rate=loguniform(1e-5, 1e-1)", *(f"{name}=" for name in fixed)),
        options={"evaluate_every": EVERY},
        changes=changes,
        scheduler_options=scheduler_options,
    )


def story(checkpoints: Path) -> Any:
    """The network of the newest of some checkpoints."""
    folders = sorted(checkpoints.glob("step_*"))
    return load_state(folders[-1])["story"] if folders else None


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
