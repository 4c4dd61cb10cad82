"""Ray Tune as the host of a sweep's slices: places them on the cluster, reuses their processes, repeats lost ones.

What runs next is decided by `sisr.sweep.schedule` from the sweep's own ledger, and where a trial stands is known from
its own verified checkpoints. So Tune's experiment state, which a crash can leave damaged without a word, decides
nothing, and neither do its schedulers: a slice ends by itself, and a trial that is not worth more gets no further one.
Nobody is killed in the middle, which is what leaks the reservations of trials that have workers of their own.
"""

import json
import logging
import os
import shutil
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sisr.cluster import train
from sisr.cluster.connection import in_thread
from sisr.cluster.train import Scaling
from sisr.cluster.trial_allotment import Share
from sisr.cluster.worker import RESERVATION
from sisr.disk.run_folder import RunFolder
from sisr.driver.run.workers import exactly
from sisr.errors import DivergedError, SisrError
from sisr.training.run import Run

ENVIRONMENT = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # paths mean the same in a trial as outside
    "RAY_AIR_NEW_OUTPUT": "0",  # its tables, which would come between ours
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # Tune's own memory is not used
    "TUNE_MAX_PENDING_TRIALS_PG": "1",  # what to run next is decided when there is room for it, not before
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",
}
RETRIES = 2  # of a slice whose process was lost
BRAKING_S = 10.0  # how long to wait for Tune where a driver was interrupted


@dataclass(frozen=True, kw_only=True)
class Task:
    """One slice of one trial, ready to run anywhere."""

    trial: int
    run: Run
    folder: Path  # of the trial, absolute
    until: int  # step
    sweep: Path  # the sweep's folder, absolute: a request to stop is left there


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a slice."""

    state: str  # paused, finished, diverged or failed
    step: int
    seconds: float = 0.0
    message: str = ""


class Host(Protocol):
    """Where slices come from and where what became of them goes: the sweep's driver."""

    def next_task(self) -> Task | None:
        """Return what to run now, or None: nothing now."""
        ...

    def finished(self) -> bool:
        """Return whether there will never be anything to run again; asked while nothing runs."""
        ...

    def ended(self, task: Task, outcome: Outcome) -> None:
        """Take note of what became of a slice."""
        ...


def run_slices(host: Host, share: Share, scratch: Path, tick: Callable[[], None]) -> None:
    """Run slices until the host has no more.

    Args:
        host: Called from another thread than this one's.
        share: What each gets, and how many run at a time.
        scratch: A folder for Tune's own files; removed before and after.
        tick: Called several times a second by the calling thread meanwhile.
    """
    from ray import tune
    from ray.tune import FailureConfig, RunConfig, TuneConfig

    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    shutil.rmtree(scratch, ignore_errors=True)
    # Trials with workers of their own only hold a place: Tune wants a bundle that is not empty, and a CPU would be one
    # less for the workers.
    bundle = {"memory": 1} if share.nested else {"CPU": share.cpus, "GPU": share.gpus}
    placement = tune.PlacementGroupFactory([{name: amount for name, amount in bundle.items() if amount}])
    errors: list[BaseException] = []
    interrupted, ended = threading.Event(), threading.Event()
    tuner = tune.Tuner(
        tune.with_resources(_slice, placement),
        tune_config=TuneConfig(
            search_alg=_searcher(host, share, errors), num_samples=-1, reuse_actors=True, trial_name_creator=str
        ),
        run_config=RunConfig(
            name="slices",
            storage_path=str(scratch),
            verbose=0,
            failure_config=FailureConfig(max_failures=RETRIES),
            callbacks=[_brake(interrupted)],
        ),
    )

    def fit() -> None:
        try:
            tuner.fit()
        finally:
            ended.set()

    try:
        in_thread(fit, tick)
    except BaseException:
        # Tune must not be at work when Ray ends: that would end this process, without a last word to anybody.
        interrupted.set()
        ended.wait(BRAKING_S)
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if errors:
        raise errors[0]


def _brake(interrupted: threading.Event) -> Any:
    from ray.tune import Callback

    class Brake(Callback):
        """Ends Tune's loop where it is."""

        def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
            """Raise an error, which nobody will read, once the driver was interrupted."""
            if interrupted.is_set():
                raise InterruptedError("the driver was interrupted")

        def __reduce__(self) -> Any:
            return (object, ())  # as the searcher below

    return Brake()


def _searcher(host: Host, share: Share, errors: list[BaseException]) -> Any:
    from ray.tune.search import Searcher

    class Slices(Searcher):
        """Offers Tune one slice at a time, as there is room."""

        def __init__(self) -> None:
            super().__init__(metric="step", mode="max")
            self._live: dict[str, Task] = {}

        def suggest(self, trial_id: str) -> Any:
            if len(self._live) >= share.concurrency:
                return None
            try:
                task = None if errors else host.next_task()
                if task is not None:
                    self._live[trial_id] = task
                    return {"task": _plain(task, share)}
                return Searcher.FINISHED if not self._live and (errors or host.finished()) else None
            except BaseException as error:  # Tune would only log it
                errors.append(error)
                return None if self._live else Searcher.FINISHED

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            task = self._live.pop(trial_id)
            if share.nested:
                release(task.folder)
            try:
                host.ended(task, _outcome(task, result, error))
            except BaseException as problem:
                errors.append(problem)

        def save(self, checkpoint_path: str) -> None:
            """Save nothing: the ledger is the memory."""

        def restore(self, checkpoint_path: str) -> None:
            """Restore nothing."""

        def __reduce__(self) -> Any:
            return (object, ())  # Tune keeps a copy of itself for a restart that we never ask for

    return Slices()


def _outcome(task: Task, result: dict[str, Any] | None, error: bool) -> Outcome:
    found = (result or {}).get("outcome")
    if found and not error:
        return Outcome(**json.loads(found))
    message = f"the trial's process was lost {RETRIES + 1} times; perhaps it took too much memory"
    return Outcome(state="failed", step=_steps_done(RunFolder(task.folder)), message=message)


def _plain(task: Task, share: Share) -> dict[str, Any]:
    shared = {"workers": share.workers, "cpus": share.cpus, "gpus": share.gpus}
    return {
        "run": task.run.model_dump(),
        "folder": str(task.folder),
        "until": task.until,
        "sweep": str(task.sweep),
        **shared,
    }


def _slice(config: dict[str, Any]) -> dict[str, Any]:
    """Run one slice in a process of Ray's, and return what became of it: an error of one trial is not the sweep's."""
    began = time.monotonic()
    task = config["task"]
    folder = RunFolder(Path(task["folder"]))
    run = Run(**task["run"])
    state, message = "failed", ""
    try:
        status = (_nested if task["workers"] > 1 else _single)(task, run, folder)
        state = "finished" if status["state"] == "finished" else "paused"
    except DivergedError as error:
        state, message = "diverged", str(error)
    except SisrError as error:
        message = str(error)
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        folder.warn(traceback.format_exc())
    step = _steps_done(folder)
    outcome = {"state": state, "step": step, "seconds": time.monotonic() - began, "message": message}
    return {"step": step, "outcome": json.dumps(outcome)}  # Tune flattens what is nested


def _single(task: dict[str, Any], run: Run, folder: RunFolder) -> dict[str, Any]:
    """Host the loop in this very process, which may host another trial's next."""
    import torch

    from sisr.tracking.outbox import Outbox
    from sisr.training.loop import train as train_loop
    from sisr.training.run import choose_device
    from sisr.training.session import PlainSession

    device = choose_device() if task["gpus"] else torch.device("cpu")
    if device.type == "cpu":
        torch.set_num_threads(max(1, int(task["cpus"])))
    session = PlainSession(RunFolder(Path(task["sweep"])), device, until=task["until"])
    with Outbox(folder.path) as log:
        return train_loop(run, folder, session, log)


def _nested(task: dict[str, Any], run: Run, folder: RunFolder) -> dict[str, Any]:
    """Let Ray Train host the loop on workers of the trial's own."""
    scaling = Scaling(workers=exactly(task["workers"]), cpus_per_worker=task["cpus"], gpus_per_worker=task["gpus"])
    sweep = RunFolder(Path(task["sweep"]))
    folder.clear_stop()

    def pass_on_stop() -> None:
        if sweep.stop_requested():
            folder.request_stop()

    try:
        return train.fit(run, folder, scaling, pass_on_stop, until=task["until"])
    finally:
        release(folder.path)


def release(folder: Path) -> None:
    """Give back what a nested trial reserved, if it still holds it: a killed one does not give it back itself."""
    path = folder / RESERVATION
    try:
        identifier = path.read_text()
    except OSError:
        return
    import ray
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(identifier))))
    path.unlink(missing_ok=True)


def _steps_done(folder: RunFolder) -> int:
    return int(folder.status().get("step", 0))


def prepare() -> None:
    """Set what Tune reads from the environment, before Ray starts."""
    os.environ.update(ENVIRONMENT)
