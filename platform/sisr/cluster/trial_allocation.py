"""What each trial of a sweep gets of a cluster, and how many run at a time."""

import math
from dataclasses import dataclass

from sisr.cluster.capacity import NODE_TYPES, Capacity, Resources
from sisr.errors import ConfigError


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
        missing = _missing(cluster, at_a_time * workers, each)
        raise ConfigError(
            f"{at_a_time} trials at a time x {_described(workers, each)} can't fit: {missing}; "
            "use a smaller --concurrency, fewer --workers-per-trial, or fewer CPUs or GPUs each"
        )
    return TrialAllocation(workers=workers, cpus=cpus, gpus=gpus, concurrency=at_a_time)


def _cpus_beside_a_gpu(cluster: Capacity) -> float:
    """Return how many CPUs there are for each GPU of a node, on the node that has the fewest."""
    nodes = [cluster.head, *cluster.nodes, *(kind.resources or {} for kind in cluster.types)]
    return min((node["CPU"] / node["GPU"] for node in nodes if node.get("GPU")), default=1.0)


def _described(workers: int, each: Resources) -> str:
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
