"""What each worker of a run, and each trial of a sweep, gets of a cluster; the wait for room for workers."""

import math
import time
from dataclasses import dataclass
from typing import Any

from sisr.cluster import capacity as capacities
from sisr.cluster.capacity import NODE_TYPES, Capacity, Resources
from sisr.disk.run_folder import RunFolder
from sisr.driver.run.workers import Workers
from sisr.errors import ConfigError, StoppedError

CHECK_EVERY_S = 5.0
WARN_AFTER_S = 15.0


@dataclass(frozen=True)
class WorkerAllocation:
    """What each worker gets, and what the user should know of the choice; empty: nothing."""

    resources: Resources  # CPU, GPU
    note: str


@dataclass(frozen=True, kw_only=True)
class TrialAllocation:
    """What one trial gets, and how many run at a time."""

    workers: int = 1
    cpus: float = 1.0  # of each worker
    gpus: float = 0.0  # of each worker
    concurrency: int = 1
    spread: bool = False  # its workers may be on several machines, as a Ray Train run of its own; else on one

    @property
    def bundle(self) -> Resources:
        """What Tune reserves for a trial whose workers are on one machine."""
        whole = {"CPU": self.workers * self.cpus, "GPU": self.workers * self.gpus}
        return {name: amount for name, amount in whole.items() if amount}


def allocate(
    workers: Workers, capacity: Capacity, *, cpus: float | None = None, gpus: float | None = None
) -> WorkerAllocation:
    """Return what each worker gets.

    Args:
        workers: How many.
        capacity: Of the cluster, with the nodes that its autoscaler may add: a cluster without work has no GPU node.
        cpus: Of each; None: 1 beside a GPU, else an equal part.
        gpus: Of each, fractions share one; None: 1 where at least `workers.least` may get one each, else 0.

    Raises:
        ConfigError: Not even the least number of workers can ever fit.
    """
    note = ""
    if gpus is None:
        beside = {"CPU": cpus or 1.0, "GPU": 1.0}
        gpus = 1.0 if capacity.may_fit(beside) >= workers.least else 0.0
        note = _note(workers, capacity, gpus > 0, capacity.fits(beside))
    if cpus is None:
        cpus = 1.0 if gpus else _equal_part(workers, capacity)
    each = {"CPU": cpus, "GPU": gpus}
    most = capacity.may_fit(each)
    if most < workers.least and not capacity.uncertain:
        found = ", ".join(f"{capacity.total(name):g} {name}" for name, amount in each.items() if amount)
        available = f"at most {found} with all nodes that may come" if capacity.grows else found
        raise ConfigError(
            f"{workers.least} workers x {_described(each) or 'nothing'} can't fit: this Ray has {available}, room for "
            f"{most}; use fewer --workers, or fewer CPUs or GPUs per worker"
        )
    return WorkerAllocation(each, note)


def allocate_trials(
    cluster: Capacity,
    *,
    workers: int = 1,
    cpus: float | None = None,
    gpus: float | None = None,
    concurrency: int | None = None,
    trials: int = 1,
    apart: bool = False,
) -> TrialAllocation:
    """Return what trials get, so that those that run at a time always find what they need.

    The workers of a trial share one machine, unless more trials fit at a time where they need not.

    Args:
        cluster: With the nodes that may come.
        workers: Of each trial; each of them lives on one node.
        cpus: Of each worker; None: 1, or its part of a node beside a GPU.
        gpus: Of each worker, fractions allowed; None: 1 where there may be enough for one trial, else 0.
        concurrency: Trials at a time; None: as many as fit when all nodes are up.
        trials: Of the whole sweep.
        apart: Machines share no folder, so that a trial's workers have to share a machine.

    Raises:
        ConfigError: Not even one trial, or not that many at a time, can ever fit; or that can't be known.
    """
    if cluster.uncertain and (gpus is None or concurrency is None):
        raise ConfigError(
            "the autoscaler may add nodes whose CPUs and GPUs are not known here: say what each trial gets with "
            "--gpus-per-trial (0: none), and how many run at a time with --concurrency; or state the nodes' resources "
            f'in {NODE_TYPES}, such as [{{"max_workers": 4, "resources": {{"CPU": 3, "GPU": 1}}}}]'
        )
    if gpus is None:
        gpus = 1.0 if cluster.may_fit({"CPU": cpus or 1.0, "GPU": 1.0}) >= workers else 0.0
    if cpus is None:
        cpus = max(1.0, math.floor(_cpus_beside_a_gpu(cluster) * gpus)) if gpus else 1.0
    each = {"CPU": cpus, "GPU": gpus}
    together = _fit_together(cluster, workers, each)
    fits = together if apart else max(together, cluster.may_fit(each) // workers)
    at_a_time = max(1, min(fits, trials) if concurrency is None else concurrency)
    if at_a_time > fits and not cluster.uncertain:
        of_workers = f"{workers} workers x " if workers > 1 else ""
        missing = _missing(cluster, at_a_time * workers, each)
        on_one = "; the workers of a trial share a machine where machines share no folder" if apart else ""
        raise ConfigError(
            f"{at_a_time} trials at a time x {of_workers}{_described(each)} can't fit: {missing}{on_one}; "
            "use a smaller --concurrency, fewer --workers-per-trial, or fewer CPUs or GPUs each"
        )
    spread = at_a_time > together and not apart and workers > 1
    return TrialAllocation(workers=workers, cpus=cpus, gpus=gpus, concurrency=at_a_time, spread=spread)


def _fit_together(cluster: Capacity, workers: int, each: Resources) -> int:
    """Return how many trials fit at most of which each has all its workers on one machine."""
    gpus = workers * each["GPU"]
    if gpus > 1 and not gpus.is_integer():  # Ray gives a process parts of one GPU only
        return 0
    return cluster.may_fit({"CPU": workers * each["CPU"], "GPU": gpus})


def _cpus_beside_a_gpu(cluster: Capacity) -> float:
    """Return how many CPUs there are for each GPU of a node, on the node that has the fewest."""
    nodes = [cluster.head, *cluster.nodes, *(kind.resources or {} for kind in cluster.types)]
    return min((node["CPU"] / node["GPU"] for node in nodes if node.get("GPU")), default=1.0)


def _equal_part(workers: Workers, capacity: Capacity) -> float:
    """Return the most CPUs that every worker can get where as many as possible run, each on one node."""
    number = min(workers.most, max(workers.least, capacity.may_fit({"CPU": 1.0})))
    part = math.floor(capacity.total("CPU") / number)
    while part > 1 and capacity.may_fit({"CPU": float(part)}) < number:
        part -= 1
    return float(max(part, 1))


def _note(workers: Workers, capacity: Capacity, chosen: bool, now: int) -> str:
    """Return what a user should know who has not said whether to train on GPUs or CPUs; empty: nothing."""
    if chosen and now >= workers.least:
        return ""
    if chosen:
        return (
            f"each of {workers} workers gets a GPU; there is room for {now or 'none'} of them yet, the autoscaler is "
            "asked for more (--gpus-per-worker 0 trains on CPUs)"
        )
    there = capacity.total("GPU")
    if there:
        return (
            f"training on CPUs: {workers.least} workers can't have a GPU each of {there:g} in this cluster; fewer "
            f"--workers, or --gpus-per-worker {math.floor(100 * there / workers.least) / 100:g}, would use them"
        )
    if capacity.uncertain:
        return (
            "training on CPUs: no node that is up has a GPU, and what others will have is not known; "
            "--gpus-per-worker 1 waits for GPUs"
        )
    return ""


def _described(each: Resources) -> str:
    return " and ".join(f"{amount:g} {name}" for name, amount in each.items() if amount)


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


class NodeWait:
    """Whether there is room for a run's workers, as the driver sees it."""

    def __init__(self, ray: Any, folder: RunFolder, workers: Workers, each: Resources, patience_s: float) -> None:
        """Count the time from now; there may be too few nodes for `each` of the workers for `patience_s`."""
        self._ray, self._folder, self._workers, self._each = ray, folder, workers, each
        self._patience_s = patience_s
        self._need = f"{workers.least} worker{'s' if workers.least > 1 else ''} x {_described(each)}"
        self._checked = self._since = time.monotonic()
        self._warned = False

    def check(self) -> None:
        """Warn where room is missing for some time.

        Raises:
            StoppedError: It is missing for too long. (Where the number of workers is fixed, Ray itself gives up.)
        """
        now = time.monotonic()
        if now - self._checked < CHECK_EVERY_S:
            return
        self._checked = now
        if capacities.read(self._ray).fits(self._each) >= self._workers.least:
            self._since, self._warned = now, False
            return
        waited = now - self._since
        if waited >= WARN_AFTER_S and not self._warned:
            self._warned = True
            self._folder.warn(
                f"waiting for nodes with room for {self._need}, {self._patience_s / 60:.0f} minutes at most; "
                "`ray status` shows what there is and what is asked for"
            )
        if waited >= self._patience_s and self._workers.elastic:
            raise self.error()

    def error(self) -> StoppedError:
        """Return the error of a run for which too few nodes came."""
        return StoppedError(
            f"run {self._folder.path.name} found no room for {self._need} within {self._patience_s / 60:.0f} minutes; "
            "the same command goes on from its last checkpoint"
        )
