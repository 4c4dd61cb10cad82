"""Ray Tune as the host of a sweep's slices: places them on the cluster, reuses their processes, repeats lost ones.

What runs next is decided by `sisr.sweep.schedule` from the sweep's own ledger, and where a trial stands is known from
its own verified checkpoints. So Tune's experiment state, which a crash can leave damaged without a word, decides
nothing, and neither do its schedulers: a slice ends by itself, and a trial that is not worth more gets no further one.
Nobody is killed in the middle, which is what leaks the reservations of trials that have workers of their own.
"""

import json
import logging
import math
import os
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sisr.cluster import train
from sisr.cluster.capacity import NODE_TYPES, Capacity, Resources
from sisr.cluster.train import Scaling
from sisr.errors import ConfigError, DivergedError, SisrError
from sisr.training.folder import RunFolder
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


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one trial gets, and how many run at a time."""

    workers: int = 1
    cpus: float = 1.0  # of each worker
    gpus: float = 0.0  # of each worker
    concurrency: int = 1

    @property
    def nested(self) -> bool:
        """Whether trials are Ray Train runs of their own."""
        return self.workers > 1


def share(
    cluster: Capacity,
    *,
    workers: int = 1,
    cpus: float | None = None,
    gpus: float | None = None,
    concurrency: int | None = None,
    trials: int = 1,
) -> Share:
    """Return how a cluster is shared among trials, so that those that run at a time always find what they need.

    Args:
        cluster: Its nodes, and those that may come.
        workers: Of each trial; each of them lives on one node.
        cpus: Of each worker; None: 1, or its part of a node beside a GPU.
        gpus: Of each worker, fractions allowed; None: 1 where there may be enough for one trial, else 0.
        concurrency: Trials at a time; None: as many as fit when all nodes are up.
        trials: Of the whole sweep.

    Raises:
        ConfigError: Not even one trial, or not that many at a time, can ever fit; or that can't be known.
    """
    if cluster.uncertain and (gpus is None or concurrency is None):
        raise ConfigError(
            "nodes may come of which nobody knows what they have: say what trials get with --gpus-per-trial (0: none), "
            f"and how many run at a time with --concurrency; or state the nodes' resources ({NODE_TYPES})"
        )
    if gpus is None:
        gpus = 1.0 if cluster.may_fit({"CPU": cpus or 1.0, "GPU": 1.0}) >= workers else 0.0
    if cpus is None:
        cpus = max(1.0, math.floor(_cpus_beside_a_gpu(cluster) * gpus)) if gpus else 1.0
    each = {"CPU": cpus, "GPU": gpus}
    fits = cluster.may_fit(each) // workers
    at_a_time = max(1, min(fits, trials) if concurrency is None else concurrency)
    if at_a_time > fits and not cluster.uncertain:
        missing = _missing(cluster, at_a_time * workers, each)
        raise ConfigError(
            f"{at_a_time} trials at a time x {_words(workers, each)} can't fit: {missing}; "
            "use a smaller --concurrency, fewer --workers-per-trial, or fewer CPUs or GPUs each"
        )
    return Share(workers=workers, cpus=cpus, gpus=gpus, concurrency=at_a_time)


def _cpus_beside_a_gpu(cluster: Capacity) -> float:
    """Return how many CPUs there are for each GPU of a node, on the node that has the fewest."""
    nodes = [cluster.head, *cluster.nodes, *(kind.resources or {} for kind in cluster.types)]
    return min((node["CPU"] / node["GPU"] for node in nodes if node.get("GPU")), default=1.0)


def _words(workers: int, each: Resources) -> str:
    amounts = " and ".join(f"{amount:g} {name}" for name, amount in each.items() if amount)
    return amounts if workers == 1 else f"{workers} workers x {amounts}"


def _missing(cluster: Capacity, bundles: int, each: Resources) -> str:
    """Return what a cluster lacks for a number of workers that need `each`."""
    totals = [
        f"{bundles * amount:g} {name} of {cluster.total(name):g}"
        for name, amount in each.items()
        if bundles * amount > cluster.total(name) + 1e-9
    ]
    if totals:
        return f"that is {', '.join(totals)} there are"
    return f"there are enough in all, but nodes with room for {cluster.may_fit(each)} such workers only"


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
    tuner = tune.Tuner(
        tune.with_resources(_slice, placement),
        tune_config=TuneConfig(
            search_alg=_searcher(host, share, errors), num_samples=-1, reuse_actors=True, trial_name_creator=str
        ),
        run_config=RunConfig(
            name="slices", storage_path=str(scratch), verbose=0, failure_config=FailureConfig(max_failures=RETRIES)
        ),
    )
    try:
        train.in_thread(tuner.fit, tick)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if errors:
        raise errors[0]


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
    scaling = Scaling(workers=task["workers"], cpus_per_worker=task["cpus"], gpus_per_worker=task["gpus"])
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
    path = folder / train.RESERVATION
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
