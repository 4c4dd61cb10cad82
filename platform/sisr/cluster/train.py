"""Ray Train as a host of the training loop: N workers on CPUs or GPUs, restarted from the last checkpoint on failure.

Checkpoints are the run's own (`training.checkpoint`): atomic, verified, in the run's folder, which all workers share.
Ray is given none, so that its own snapshot, rewritten in place and fatal when damaged, decides nothing.
"""

import logging
import math
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sisr.cluster import environment, shared
from sisr.errors import ConfigError, OutOfMemoryError, SisrError
from sisr.training.folder import RunFolder
from sisr.training.run import Run, blaming

COLLECTIVE_TIMEOUT_S = 300  # a dead peer is noticed after this; nodes may differ by this much in packing their data
POLL_S = 0.3
RESERVATION = ".placement_group"  # in the run's folder while it is trained
PEER_REPORT_S = 3.0  # how long a worker whose peer vanished looks for the reason


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """How many workers a run gets and what each of them holds."""

    workers: int = 1
    gpus_per_worker: float | None = None  # fractions share a GPU; None: 1 where there are enough GPUs, else 0
    cpus_per_worker: float | None = None  # None: an equal share of this machine's, or 1 beside a GPU
    max_failures: int = 3  # restarts after a worker or node was lost
    address: str | None = None  # of a running cluster; None: this machine's, if any, else our own; local: our own


def fit(
    run: Run, folder: RunFolder, scaling: Scaling, tick: Callable[[], None], *, until: int | None = None
) -> dict[str, Any]:
    """Train on Ray's workers and return the run's last status.

    Args:
        run: What to execute.
        folder: The run's folder, on storage that all workers reach.
        scaling: How many workers, and how large.
        tick: Called several times a second by the calling thread while training goes on.
        until: Stop, resumable, after this many steps; None: at the run's end.

    Raises:
        ConfigError: The workers can never fit into this Ray.
        SisrError: What stopped the training, as the worker raised it.
    """
    ray = connect(scaling.address)
    from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    resources = _resources(scaling, ray.cluster_resources())
    scratch = folder.path / "ray"
    shutil.rmtree(scratch, ignore_errors=True)
    folder.clear_failure()
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"run": run.model_dump(), "folder": str(folder.path.resolve()), "until": until, **resources},
        # NCCL refuses two workers on one GPU.
        torch_config=TorchConfig(backend="gloo" if resources["GPU"] < 1 else None, timeout_s=COLLECTIVE_TIMEOUT_S),
        scaling_config=ScalingConfig(
            num_workers=scaling.workers, use_gpu=resources["GPU"] > 0, resources_per_worker=_positive(resources)
        ),
        run_config=RunConfig(
            # A name of its own for each attempt: under an old name Ray would restore what it remembers of it.
            name=f"attempt-{uuid.uuid4().hex[:8]}",
            storage_path=str(scratch.resolve()),
            failure_config=FailureConfig(max_failures=scaling.max_failures, controller_failure_limit=2),
            logging_config=LoggingConfig(log_level="WARNING"),
        ),
    )
    try:
        outcome = in_thread(trainer.fit, tick)
    except Exception as error:
        raise folder.failure() or _explained(error) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if failure := folder.failure():
        raise failure
    return dict(outcome.return_value or folder.status())


def shutdown() -> None:
    """End a Ray that was started by `fit`; do nothing where there is none."""
    import ray

    if ray.is_initialized():
        ray.shutdown()


def connect(address: str | None) -> Any:
    """Return Ray, connected: as it is already, to `address`, or to a cluster of its own on this machine.

    Raises:
        ConfigError: Nothing answers at `address`.
    """
    environment.prepare()
    import ray

    if not ray.is_initialized():
        # Without an address Ray looks for RAY_ADDRESS, which a submitted job finds set, and else starts here.
        options: dict[str, Any] = {"address": address} if address else {}
        # ray.init puts a handler of its own on SIGTERM, which would end the driver without a checkpoint.
        ours = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(**options, log_to_driver=False, logging_level=logging.ERROR, configure_logging=True)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            if address:
                raise ConfigError(f"no Ray answers at --address {address}: {reason}") from error
            if isinstance(error, ConnectionError):  # it found one that somebody has started
                raise ConfigError(
                    f"a Ray runs here that does not let us in: {reason}; --address local starts another one"
                ) from error
            raise
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, ours)
    return ray


def _resources(scaling: Scaling, cluster: dict[str, float]) -> dict[str, float]:
    """Return CPU and GPU of one worker."""
    gpus = scaling.gpus_per_worker
    if gpus is None:
        gpus = 1.0 if cluster.get("GPU", 0) >= scaling.workers else 0.0
    cpus = scaling.cpus_per_worker
    if cpus is None:
        cpus = 1.0 if gpus else max(1.0, math.floor(cluster.get("CPU", 1) / scaling.workers))
    for name, each in (("CPU", cpus), ("GPU", gpus)):
        there = cluster.get(name, 0.0)
        if each * scaling.workers > there + 1e-9 and not can_grow():
            raise ConfigError(
                f"{scaling.workers} workers x {each:g} {name} need {each * scaling.workers:g} {name}, but this Ray has "
                f"{there:g}: use fewer --workers or fewer {name}s per worker"
            )
    return {"CPU": cpus, "GPU": gpus}


def can_grow() -> bool:
    """Return whether an autoscaler may add nodes."""
    return (Path.home() / "ray_bootstrap_config.yaml").exists()


def _positive(resources: dict[str, float]) -> dict[str, float]:
    return {name: amount for name, amount in resources.items() if amount > 0}


def _worker(config: dict[str, Any]) -> dict[str, Any] | None:
    """Run the loop in one of Ray's workers and return the run's last status.

    An error for the user is left in the run's folder and ends all workers without one: Ray would retry it.
    """
    import torch
    import torch.distributed as dist

    from sisr.tracking.outbox import Outbox
    from sisr.training.loop import train
    from sisr.training.session import NoLog

    run, folder = Run(**config["run"]), RunFolder(Path(config["folder"]))
    shared.confirm(folder.path)
    session = RayTrainSession(folder, use_gpu=config["GPU"] > 0, until=config["until"])
    if session.rank == 0:
        _note_reservation(folder)
    if session.device.type == "cpu":
        torch.set_num_threads(max(1, int(config["CPU"])))
    log = Outbox(folder.path) if session.rank == 0 else NoLog()
    try:
        with blaming(run):
            return train(run, folder, session, log)
    except SisrError as error:
        folder.report_failure(error)
        if session.world > 1:
            dist.destroy_process_group()  # frees the peers that wait for us
        return None
    except RuntimeError:
        # Perhaps a peer has left, and says why.
        deadline = time.monotonic() + PEER_REPORT_S
        while folder.failure() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        if folder.failure() is None:
            raise
        return None
    finally:
        log.close()


def _note_reservation(folder: RunFolder) -> None:
    """Leave the placement group's id for whoever must give it back if this run is killed."""
    import ray.util

    group = ray.util.get_current_placement_group()
    if group is not None:
        (folder.path / RESERVATION).write_text(group.id.hex())


class RayTrainSession:
    """A Ray Train worker's place among its peers."""

    def __init__(self, folder: RunFolder, *, use_gpu: bool, until: int | None = None) -> None:
        """Ask Ray who we are; `until` is the step to stop at, if that is before the run's end."""
        import ray.train.torch
        import torch

        context = ray.train.get_context()
        self.rank, self.world = context.get_world_rank(), context.get_world_size()
        # Ray believes in GPUs that its user declared; torch knows whether there is one.
        gpu = use_gpu and torch.cuda.is_available()
        self.device = ray.train.torch.get_device() if gpu else torch.device("cpu")
        self._folder, self._until = folder, until

    def stop_requested(self, step: int) -> bool:
        """Return whether the step to stop at is reached or the run's folder holds a request to stop."""
        if self._until is not None and step >= self._until:
            return True
        return self.rank == 0 and self._folder.stop_requested()

    def report(self, step: int, metrics: dict[str, float]) -> None:
        """Tell Ray an evaluation's numbers; a number that is not finite would poison a restart."""
        import ray.train

        ray.train.report({"step": step, **{n: v for n, v in metrics.items() if math.isfinite(v)}})


def in_thread(fit: Callable[[], Any], tick: Callable[[], None]) -> Any:
    """Call `fit` in a thread, which would replace the main one's signal handlers, and `tick` in this one meanwhile."""
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append(fit())
        except BaseException as error:  # handed to the caller's thread
            outcome.append(error)

    thread = threading.Thread(target=work, name="ray-train", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL_S)
        tick()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def _explained(error: BaseException) -> BaseException:
    """Return the error that the user should read."""
    for failure in getattr(error, "worker_failures", {}).values():
        cause = getattr(failure, "cause", failure)
        if isinstance(cause, SisrError):
            return cause
        if "out of memory" in str(cause).lower():
            return OutOfMemoryError(f"a worker ran out of memory: {str(cause).splitlines()[0]}")
    return error
