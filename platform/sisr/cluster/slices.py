"""A sweep's slices as Ray Tune's trials: what offers them to Tune, and what runs in the processes of its trials.

Imports Ray at its top: import it where Ray is used. Such a process runs one slice after another, each of any of the
sweep's trials.
"""

import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.tune.search import Searcher
from ray.util.placement_group import PlacementGroup, remove_placement_group

from sisr.cluster import train
from sisr.cluster.allocation import TrialAllocation
from sisr.cluster.train import Scaling
from sisr.cluster.trial_folders import Desk
from sisr.cluster.tune import RETRIES
from sisr.cluster.worker import RESERVATION
from sisr.disk.run_folder import RunFolder
from sisr.driver.run.workers import exactly
from sisr.driver.sweep.host import SliceEnd, SliceSource, Task
from sisr.errors import DivergedError, OutOfMemoryError, SisrError, StoppedError
from sisr.training.run import explain_recipe_errors


class SliceSearcher(Searcher):
    """Offers Tune one slice at a time, as there is room, and hands back how each ended."""

    def __init__(self, source: SliceSource, allocation: TrialAllocation, desk: Desk | None = None) -> None:
        """Search nothing: the source decides, and each slice gets the allocation, and the desk where there is one."""
        super().__init__()
        self._source, self._allocation, self._desk = source, allocation, desk
        self._live: dict[str, Task] = {}
        self.error: BaseException | None = None  # what the source raised: Tune would hand on its text only

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next slice as a trial's config, None for nothing now, or FINISHED."""
        try:
            task = self._source.next_task()
            if task is None:
                return None if self._live or not self._source.finished() else str(Searcher.FINISHED)
        except BaseException as error:
            self.error = error
            raise
        self._live[trial_id] = task
        return {"task": task, "allocation": self._allocation, "desk": self._desk}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Hand a slice's end to the source."""
        task = self._live.pop(trial_id)
        try:
            if self._allocation.spread:
                release(task.folder)
            self._source.ended(task, outcome(task, None if error else result))
        except BaseException as problem:
            self.error = problem
            raise

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Tune pickles its searcher for a restart that nobody asks for, and the driver holds locks."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the ledger is the memory."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""


def run_slice(config: dict[str, Any]) -> dict[str, Any]:
    """Run one slice, and return how it ended as one of Tune's results: an error of one trial is not the sweep's."""
    task: Task = config["task"]
    desk: Desk | None = config.get("desk")
    if desk is None or not desk.is_elsewhere():
        return _ran(task, config["allocation"])
    try:
        with desk.brought_here(task) as folder:  # to which a request to stop comes, too
            return _ran(replace(task, folder=folder.path, sweep=folder.path), config["allocation"])
    except SisrError as problem:
        return {"state": "failed", "error": type(problem).__name__, "message": str(problem), "step": 0, "seconds": 0.0}


def _ran(task: Task, allocation: TrialAllocation) -> dict[str, Any]:
    """Run one slice in a folder that this machine reaches."""
    began = time.monotonic()
    folder, state, error, message = RunFolder(task.folder), "failed", "", ""
    try:
        with explain_recipe_errors(task.run):
            status = _host(allocation)(task, allocation)
        state = "finished" if status["state"] == "finished" else "paused"
    except SisrError as problem:
        state = "diverged" if isinstance(problem, DivergedError) else "failed"
        error, message = type(problem).__name__, str(problem)
        if isinstance(problem, StoppedError | OutOfMemoryError):  # lost too often, no room: it would end so again
            error = OutOfMemoryError.__name__
    except Exception as problem:  # the sweep goes on without this trial, whose folder keeps the traceback
        error, message = SisrError.__name__, f"{type(problem).__name__}: {problem}"
        with suppress(OSError):  # a full disk, say, which may be what went wrong
            folder.warn(traceback.format_exc())
    seconds = time.monotonic() - began
    return {"step": _steps_done(folder), "state": state, "seconds": seconds, "message": message, "error": error}


def _host(allocation: TrialAllocation) -> Callable[[Task, TrialAllocation], dict[str, Any]]:
    """Return who trains a slice and returns its last status."""
    if allocation.workers == 1:
        return _alone
    return _spread if allocation.spread else _together


def outcome(task: Task, result: dict[str, Any] | None) -> SliceEnd:
    """Return how a slice ended by one of Tune's results; None: its process was lost more often than it is repeated."""
    if result and "state" in result:
        return SliceEnd(**{name: result[name] for name in ("state", "step", "seconds", "message", "error")})
    message = "the trial's process was lost again and again; perhaps it took too much memory"
    return SliceEnd(
        state="failed", step=_steps_done(RunFolder(task.folder)), message=message, error=OutOfMemoryError.__name__
    )


def _alone(task: Task, allocation: TrialAllocation) -> dict[str, Any]:
    """Host the loop in this very process, which may host another trial's next."""
    import torch

    from sisr.tracking.outbox import Outbox
    from sisr.training.device import choose_device
    from sisr.training.loop import train as train_loop
    from sisr.training.session import PlainSession

    device = choose_device() if allocation.gpus else torch.device("cpu")
    if device.type == "cpu":
        torch.set_num_threads(max(1, int(allocation.cpus)))
    session = PlainSession(RunFolder(task.sweep), device, until=task.until)
    with Outbox(task.folder, tensorboard=task.run.options.tensorboard) as log:
        return train_loop(task.run, RunFolder(task.folder), session, log)


def _together(task: Task, allocation: TrialAllocation) -> dict[str, Any]:
    """Host the loop in processes on this machine, each forked in no time: Ray's would take 8 s for every slice."""
    from sisr.tracking.outbox import Outbox
    from sisr.training.local import LostWorkerError, Share, train_in_processes

    share = Share(allocation.workers, max(1, int(allocation.cpus)), use_gpus=allocation.gpus > 0)
    open_log = partial(Outbox, tensorboard=task.run.options.tensorboard)

    def attempt() -> dict[str, Any]:
        folder, sweep = RunFolder(task.folder), RunFolder(task.sweep)
        return train_in_processes(task.run, folder, share, open_log, until=task.until, asked=sweep)

    for _ in range(RETRIES):  # as often as Tune repeats a slice whose own process was lost
        with suppress(LostWorkerError):
            return attempt()
    return attempt()


def _spread(task: Task, allocation: TrialAllocation) -> dict[str, Any]:
    """Let Ray Train host the loop on workers of the trial's own."""
    folder, sweep = RunFolder(task.folder), RunFolder(task.sweep)
    folder.clear_stop()
    release(task.folder)  # of a process before this one that was killed

    def pass_on_stop() -> None:
        if sweep.stop_requested():
            folder.request_stop()

    scaling = Scaling(
        workers=exactly(allocation.workers), cpus_per_worker=allocation.cpus, gpus_per_worker=allocation.gpus
    )
    try:
        return train.fit(task.run, folder, scaling, pass_on_stop, until=task.until)
    finally:
        release(task.folder)


def release(folder: Path) -> None:
    """Give back what a trial reserved for its workers, if it still holds it: a killed one does not do that itself."""
    path = folder / RESERVATION
    try:
        identifier = path.read_text()
    except OSError:
        return
    remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(identifier))))
    path.unlink(missing_ok=True)


def _steps_done(folder: RunFolder) -> int:
    return int(folder.status().get("step", 0))
