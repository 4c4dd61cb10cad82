"""Ray Train as a host of the training loop: N workers on CPUs or GPUs, restarted from the last checkpoint on failure.

Checkpoints are the run's own (`training.checkpoint`): atomic, verified, in the run's folder, which all workers share.
Ray is given none, so that its own snapshot, rewritten in place and fatal when damaged, decides nothing.
"""

import math
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sisr.cluster import capacity, node_checks
from sisr.cluster.allocation import NodeWait, allocate
from sisr.cluster.capacity import Resources
from sisr.cluster.connection import connect, in_thread, leave
from sisr.cluster.own_ray import is_own
from sisr.cluster.worker import work
from sisr.disk.run_folder import RunFolder
from sisr.driver.run.workers import Workers, exactly
from sisr.errors import OutOfMemoryError, SisrError, StoppedError
from sisr.storage import handover
from sisr.storage.ownership import found_owned
from sisr.terminal.console import note
from sisr.training.run import OTHERS_FAULTS, Run

# How long a worker waits for another in one step, one validation or one checkpoint. Ray itself notices a dead process
# at once and a dead node within half a minute; this is for one that lives and no longer moves.
COLLECTIVE_TIMEOUT_S = 300
RESIZE_EVERY_S = 60.0  # how often to look for room to grow; growing takes as long as starting
PATIENCE_S = 300.0  # how long to wait for nodes
AUTOSCALER_PATIENCE_S = 1800.0  # the same where nodes may be started, of one kind of instance after another


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """How many workers a run gets and what each of them holds."""

    workers: Workers = field(default_factory=lambda: exactly(1))
    gpus_per_worker: float | None = None  # fractions allowed; None: 1 where enough are there or may come, else 0
    cpus_per_worker: float | None = None  # None: an equal part of the cluster's, or 1 beside a GPU
    max_failures: int = 3  # restarts after a worker or node was lost
    address: str | None = None  # of a running cluster; None: this machine's, if any, else our own; local: our own


def on_ray(scaling: Scaling, run: Run, folder: RunFolder, tick: Callable[[], None]) -> dict[str, Any]:
    """Train on Ray's workers, with a connection of its own; once `scaling` is bound, a `driver.run.hosts.RunHost`."""
    try:
        ray, grows = connect(scaling.address), capacity.can_grow()
        owned = found_owned(folder.path)
        if owned is None or not node_checks.may_have_others(ray, grows):
            node_checks.check(ray, folder.path, grows=grows)
            return fit(run, folder, scaling, tick)
        node_checks.check_storage(ray, owned.bucket.address)
        with handover.handed_over(owned, note) as ticket:
            return fit(run, folder, scaling, tick, ticket=ticket)
    finally:
        leave()  # meanwhile the run's last records are delivered


def fit(
    run: Run,
    folder: RunFolder,
    scaling: Scaling,
    tick: Callable[[], None],
    *,
    until: int | None = None,
    ticket: handover.Ticket | None = None,
) -> dict[str, Any]:
    """Train on Ray's workers and return the run's last status.

    Args:
        run: What to execute.
        folder: The run's, on storage that all workers reach.
        scaling: How many workers, and how large.
        tick: Called several times a second by the calling thread.
        until: Stop, resumable, after this many steps; None: at the run's end.
        ticket: Of workers that do not reach the folder, but the bucket; None: they reach it.

    Raises:
        ConfigError: The workers can never fit into this Ray.
        StoppedError: Too few nodes came, or workers were lost too often.
        SisrError: What stopped the training, as a worker raised it; the others are ended at once.
    """
    ray = connect(scaling.address)
    cluster = capacity.read(ray)
    each = allocate(scaling.workers, cluster, cpus=scaling.cpus_per_worker, gpus=scaling.gpus_per_worker)
    note(each.note)
    patience_s = AUTOSCALER_PATIENCE_S if cluster.grows else PATIENCE_S
    nodes = NodeWait(ray, folder, scaling.workers, each.resources, patience_s)
    scratch = folder.path.resolve() / "ray"
    shutil.rmtree(scratch, ignore_errors=True)
    place = {"folder": str(folder.path.resolve()), "ticket": ticket}
    task = {"run": run.model_dump(), **place, "until": until, **each.resources}
    trainer = _trainer(task, scaling, each.resources, scratch, patience_s)

    def tick_and_check() -> None:
        tick()
        nodes.check()

    try:
        outcome = in_thread(trainer.fit, tick_and_check)
    except Exception as error:
        raise _explained(error, nodes, scaling) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return dict(outcome.return_value)


def _trainer(task: dict[str, Any], scaling: Scaling, resources: Resources, scratch: Path, patience_s: float) -> Any:
    """Return Ray's trainer of a run, which keeps Ray's own files in `scratch`.

    It looks for room for `patience_s` where the number of workers is fixed; a range waits without end.
    """
    from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig

    from sisr.cluster.train_extensions import EndOnError, OneAddressConfig, SaveBeforeResizing, Trainer, TrainerOfOwnRay

    workers = scaling.workers
    search_s = float(os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"])  # of each attempt to find room
    return (TrainerOfOwnRay if is_own() else Trainer)(
        work,
        train_loop_config=task,
        # NCCL refuses two workers on one GPU.
        backend_config=OneAddressConfig("nccl" if resources["GPU"] >= 1 else "gloo", timeout_s=COLLECTIVE_TIMEOUT_S),
        scaling_config=ScalingConfig(
            num_workers=(workers.least, workers.most) if workers.elastic else workers.most,
            use_gpu=resources["GPU"] > 0,
            resources_per_worker={name: amount for name, amount in resources.items() if amount > 0},
            elastic_resize_monitor_interval_s=RESIZE_EVERY_S,
        ),
        run_config=RunConfig(
            # A name of its own for each attempt: under an old name Ray would restore what it remembers of it.
            name=f"attempt-{uuid.uuid4().hex[:8]}",
            storage_path=str(scratch),
            failure_config=FailureConfig(
                max_failures=scaling.max_failures,
                controller_failure_limit=math.ceil(patience_s / search_s),  # an attempt that is given up counts as one
            ),
            callbacks=[SaveBeforeResizing(), EndOnError()],
            logging_config=LoggingConfig(log_level="WARNING"),
        ),
    )


def _explained(error: Exception, nodes: NodeWait, scaling: Scaling) -> Exception:
    """Return what the user should read of an error that ended Ray Train; the error itself where it is our mistake."""
    from ray import exceptions
    from ray.train.v2._internal import exceptions as train_exceptions

    controller = getattr(error, "controller_failure", None)
    if isinstance(controller, SisrError):
        return controller
    if isinstance(controller, train_exceptions.WorkerGroupStartupTimeoutError):
        return nodes.error()
    failures = getattr(error, "worker_failures", {}).values()
    causes = [getattr(failure, "health_check_failure", failure) for failure in failures]
    for cause in causes:
        if isinstance(cause, SisrError):
            return cause
        if isinstance(cause, exceptions.OutOfMemoryError) or "out of memory" in str(cause).lower():
            return OutOfMemoryError(f"a worker ran out of memory: {str(cause).splitlines()[0]}")
    lost = (exceptions.RayActorError, train_exceptions.WorkerHealthCheckTimeoutError)
    if any(isinstance(cause, lost) or OTHERS_FAULTS.search(str(cause)) for cause in causes):
        return StoppedError(
            f"a worker was lost, and --max-failures {scaling.max_failures} allows no further restart. If it was killed "
            "for memory, use a smaller batch or fewer workers on a node; the same command goes on from the last "
            "checkpoint"
        )
    return error
