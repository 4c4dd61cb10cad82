"""What runs in each of Ray Train's workers: the training loop, and this worker's place among its peers."""

import math
from pathlib import Path
from typing import Any

from sisr.cluster import checkpoint_requests, node_checks
from sisr.disk.run_folder import RunFolder
from sisr.training.run import Run, explain_recipe_errors
from sisr.training.session import Request

RESERVATION = ".placement_group"  # in the run's folder while it is trained


def work(config: dict[str, Any]) -> dict[str, Any]:
    """Run the loop in one of Ray's workers and return the run's last status.

    Raises:
        SisrError: An error for the user; `controller.EndOnError` ends the run with it. Ray retries any other.
    """
    import torch

    from sisr.tracking.outbox import Outbox
    from sisr.training.loop import train
    from sisr.training.session import NoLog, closing

    run, folder = Run(**config["run"]), RunFolder(Path(config["folder"]))
    node_checks.require_run(folder.path)
    session = RayTrainSession(folder, use_gpu=config["GPU"] > 0, until=config["until"])
    if session.rank == 0:
        _record_reservation(folder)
    if session.device.type == "cpu":
        torch.set_num_threads(max(1, int(config["CPU"])))
    log = Outbox(folder.path) if session.rank == 0 else NoLog()
    with closing(log), explain_recipe_errors(run):
        return train(run, folder, session, log)


def _record_reservation(folder: RunFolder) -> None:
    """Write down the placement group's id, so that it can be given back if this run is killed."""
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
        from ray.train.v2._internal.execution.context import get_train_context

        context = ray.train.get_context()
        self.rank, self.world = context.get_world_rank(), context.get_world_size()
        # Ray believes in GPUs that its user declared; torch knows whether there is one.
        gpu = use_gpu and torch.cuda.is_available()
        self.device = ray.train.torch.get_device() if gpu else torch.device("cpu")
        self._folder, self._until = folder, until
        self._preemption = checkpoint_requests.PreemptionWatch(get_train_context().preemption_context)

    def request(self, step: int) -> Request:
        """Return STOP at the step to stop at or on request, and SAVE where workers are about to be taken away."""
        if self._until is not None and step >= self._until:
            return Request.STOP
        if self.rank:
            return Request.CONTINUE
        save = self._preemption.requests_checkpoint() or checkpoint_requests.is_requested()
        return Request.STOP if self._folder.stop_requested() else Request.SAVE if save else Request.CONTINUE

    def saved(self, step: int) -> None:
        """Let Ray's controller go on that has asked for a checkpoint."""
        checkpoint_requests.confirm_saved()

    def wait_for_others(self) -> None:
        """Wait as long as Ray thinks that the others live: a new node packs its images while old ones have them."""
        import ray.train.collective

        if self.world > 1:
            ray.train.collective.barrier()

    def report(self, step: int, metrics: dict[str, float]) -> None:
        """Tell Ray an evaluation's numbers; a number that is not finite would poison a restart."""
        import ray.train

        ray.train.report({"step": step, **{n: v for n, v in metrics.items() if math.isfinite(v)}})
