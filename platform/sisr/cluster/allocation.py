"""What each worker of a run, and each trial of a sweep, gets of a cluster, where its user leaves that to us."""

import math
from dataclasses import dataclass

from sisr.cluster.capacity import NODE_TYPES, Capacity, Resources
from sisr.driver.run.workers import Workers
from sisr.errors import ConfigError


@dataclass(frozen=True)
class WorkerAllocation:
    """What each worker gets, and what the user should know of the choice; empty: nothing."""

    resources: Resources  # CPU, GPU
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class TrialAllocation:
    """What one trial gets, and how many run at a time."""

    workers: int = 1
    cpus: float = 1.0  # of each worker
    gpus: float = 0.0  # of each worker
    concurrency: int = 1

    @property
    def nested(self) -> bool:
        """Whether trials are Ray Train runs of their own."""
        return self.workers > 1


def allocate(
    workers: Workers, capacity: Capacity, *, cpus: float | None = None, gpus: float | None = None
) -> WorkerAllocation:
    """Return what each worker gets.

    Args:
        workers: How many there are.
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
        raise ConfigError(
            f"{workers.least} workers x {_described(each)} can't fit: this Ray has {_available(capacity, each)}, room "
            f"for {most}; use fewer --workers, or fewer CPUs or GPUs per worker"
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
) -> TrialAllocation:
    """Return what trials get, so that those that run at a time always find what they need.

    Args:
        cluster: With the nodes that may come.
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
            "the autoscaler may add nodes whose CPUs and GPUs are not known here: say what each trial gets with "
            "--gpus-per-trial (0: none), and how many run at a time with --concurrency; or state the nodes' resources "
            f'in {NODE_TYPES}, such as [{{"max_workers": 4, "resources": {{"CPU": 3, "GPU": 1}}}}]'
        )
    if gpus is None:
        gpus = 1.0 if cluster.may_fit({"CPU": cpus or 1.0, "GPU": 1.0}) >= workers else 0.0
    if cpus is None:
        cpus = max(1.0, math.floor(_cpus_beside_a_gpu(cluster) * gpus)) if gpus else 1.0
    each = {"CPU": cpus, "GPU": gpus}
    fits = cluster.may_fit(each) // workers
    at_a_time = max(1, min(fits, trials) if concurrency is None else concurrency)
    if at_a_time > fits and not cluster.uncertain:
        of_workers = f"{workers} workers x " if workers > 1 else ""
        missing = _missing(cluster, at_a_time * workers, each)
        raise ConfigError(
            f"{at_a_time} trials at a time x {of_workers}{_described(each)} can't fit: {missing}; "
            "use a smaller --concurrency, fewer --workers-per-trial, or fewer CPUs or GPUs each"
        )
    return TrialAllocation(workers=workers, cpus=cpus, gpus=gpus, concurrency=at_a_time)


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
    if chosen:
        room = f"{now or 'none'} of them"
        return (
            f"each of {workers} workers gets a GPU; there is room for {room} yet, the autoscaler is asked for more "
            "(--gpus-per-worker 0 trains on CPUs)"
            if now < workers.least
            else ""
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
    return " and ".join(f"{amount:g} {name}" for name, amount in each.items() if amount) or "nothing"


def _available(capacity: Capacity, each: Resources) -> str:
    found = ", ".join(f"{capacity.total(name):g} {name}" for name, amount in each.items() if amount)
    return f"at most {found} with all nodes that may come" if capacity.grows else found


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
