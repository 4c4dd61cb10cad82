"""What is added to Ray Train's controller, the actor that starts and watches a run's workers."""

from typing import Any

from ray.exceptions import RayError
from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback
from ray.train.v2._internal.execution.controller.state import ResizingState

from sisr.cluster import checkpoint_requests
from sisr.errors import RunLockedError, SisrError


class SaveBeforeResizing(ControllerCallback, WorkerGroupCallback):
    """Lets workers save a checkpoint before they are stopped to begin again in another number."""

    def __init__(self) -> None:
        """Know no workers yet."""
        self._workers: Any = None

    def after_worker_group_start(self, worker_group: Any) -> None:
        """Remember the workers."""
        self._workers = worker_group

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        """Let the first worker save, and wait for it; if it can't, the run begins at its last checkpoint."""
        if isinstance(current_state, ResizingState):
            try:
                self._workers.execute_single(0, checkpoint_requests.save_now)
            except RayError:
                return  # a worker was lost meanwhile: nothing to save


class EndOnError(WorkerGroupCallback):
    """Ends a run at once when one worker raises an error for the user, while the others may wait for that worker.

    Ray itself would start all workers again, as often as it does after the loss of a node.
    """

    def after_worker_group_poll_status(self, worker_group_status: Any) -> None:
        """Raise the error, which makes it the controller's own: Ray tries nothing again after one.

        But a lock may be held by a worker of the attempt before, on a node that was cut off: Ray tries again.
        """
        for error in worker_group_status.errors.values():
            if isinstance(error, SisrError) and not isinstance(error, RunLockedError):
                raise error
