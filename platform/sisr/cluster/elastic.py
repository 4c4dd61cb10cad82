"""Inside Ray Train's controller: a checkpoint before a run that goes on well is stopped, to begin again with more."""

from typing import Any

from ray.exceptions import RayError
from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback
from ray.train.v2._internal.execution.controller.state import ResizingState

from sisr.cluster import checkpoint_requests


class SaveBeforeResizing(ControllerCallback, WorkerGroupCallback):
    """Ray Train itself ends the workers of a run that it resizes wherever they are."""

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
