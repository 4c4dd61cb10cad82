"""What each worker of a run gets of a cluster, where its user leaves that to us."""

import math
from dataclasses import dataclass

from sisr.cluster.capacity import Capacity, Resources
from sisr.driver.run.workers import Workers
from sisr.errors import ConfigError


@dataclass(frozen=True)
class WorkerAllocation:
    """What each worker gets, and what the user should know of the choice; empty: nothing."""

    resources: Resources  # CPU, GPU
    note: str = ""


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
