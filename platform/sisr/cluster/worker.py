"""What runs in each of Ray Train's workers: the training loop, and this worker's place among its peers.

A worker saves just before Ray takes workers away: when a node is to be preempted, and when a run is to grow (see
`saving`). Both reach the first worker's process through Ray, not through files: another host's new file may stay unseen
for a minute on NFS, and a node may be gone by then.
"""

import math
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sisr.cluster import node_checks, saving
from sisr.disk.run_folder import RunFolder
from sisr.storage import handover
from sisr.training.run import Run, explain_recipe_errors
from sisr.training.session import Request

RESERVATION = ".placement_group"  # in the run's folder while it is trained
LAST_SAVE_S = 20.0  # before a node goes


def work(config: dict[str, Any]) -> dict[str, Any]:
    """Run the loop in one of Ray's workers and return the run's last status.

    Raises:
        SisrError: An error for the user; `train_extensions.EndOnError` ends the run with it. Ray retries any other.
    """
    import ray.util
    import torch

    from sisr.tracking.outbox import Outbox
    from sisr.training.loop import train
    from sisr.training.session import NoLog, closing

    run, session = Run(**config["run"]), RayTrainSession(use_gpu=config["GPU"] > 0, until=config["until"])
    if session.device.type == "cpu":
        torch.set_num_threads(max(1, int(config["CPU"])))
    with ExitStack() as stack:
        if config["ticket"]:
            joined = handover.joined(config["ticket"], session.rank == 0, session.wait_for_others)
            folder = session.folder = stack.enter_context(joined)
        else:
            folder = session.folder = RunFolder(Path(config["folder"]))
            node_checks.require_run(folder.path)
        if session.rank == 0 and (group := ray.util.get_current_placement_group()) is not None:
            (folder.path / RESERVATION).write_text(group.id.hex())  # so that it can be given back if this run is killed
        log = Outbox(folder.path, tensorboard=run.options.tensorboard) if session.rank == 0 else NoLog()
        with closing(log), explain_recipe_errors(run):
            return train(run, folder, session, log)


class PreemptionWatch:
    """Decides when to save because nodes of this run will be taken away, as Ray announces it to its workers.

    The documented `ray.train.get_preemption_info` makes all workers wait for each other, through an actor, at every
    call. The first worker's own view is enough: whether to save is agreed upon anyway.
    """

    def __init__(self, context: Any) -> None:
        """Watch a worker's `PreemptionContext`, which Ray changes when a preemption is announced."""
        self._context = context
        self._seen: Any = None
        self._again_at = math.inf  # seconds of the clock on the wall, as Ray gives the deadline

    def requests_checkpoint(self) -> bool:
        """Return whether to save now: once when nodes are announced to go, and once shortly before they do."""
        info = self._context.preemption_info
        announced = info is not None and info is not self._seen
        if announced:
            self._seen = info
            self._again_at = math.inf if info.deadline_ms is None else info.deadline_ms / 1000 - LAST_SAVE_S
        last = time.time() >= self._again_at
        if last:
            self._again_at = math.inf
        return announced or last


class RayTrainSession:
    """A Ray Train worker's place among its peers: a `training.session.Session`."""

    folder: RunFolder  # the run's, once it is known

    def __init__(self, *, use_gpu: bool, until: int | None = None) -> None:
        """Ask Ray who we are; `until` is the step to stop at, if that is before the run's end."""
        import ray.train.torch
        import torch
        from ray.train.v2._internal.execution.context import get_train_context

        context = ray.train.get_context()
        self.rank, self.world = context.get_world_rank(), context.get_world_size()
        # Ray believes in GPUs that its user declared; torch knows whether there is one.
        gpu = use_gpu and torch.cuda.is_available()
        self.device = ray.train.torch.get_device() if gpu else torch.device("cpu")
        self._until = until
        self._preemption = PreemptionWatch(get_train_context().preemption_context)

    def request(self, step: int) -> Request:
        if self._until is not None and step >= self._until:
            return Request.STOP
        if self.rank:
            return Request.CONTINUE
        save = self._preemption.requests_checkpoint() or saving.requested.is_set()
        return Request.STOP if self.folder.stop_requested() else Request.SAVE if save else Request.CONTINUE

    def saved(self, step: int) -> None:
        saving.confirm_saved()

    def wait_for_others(self) -> None:
        import ray.train.collective

        # Waits as long as Ray thinks that the others live: a new node packs its images while old ones have them.
        if self.world > 1:
            ray.train.collective.barrier()

    def report(self, step: int, metrics: dict[str, float]) -> None:
        import ray.train

        # A number that is not finite would poison a restart.
        ray.train.report({"step": step, **{n: v for n, v in metrics.items() if math.isfinite(v)}})
