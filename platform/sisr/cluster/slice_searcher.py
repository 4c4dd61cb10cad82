"""A sweep's driver as Ray Tune's searcher: one slice of one trial is one of Tune's trials.

Imports Ray at its top: import it where Ray is used.
"""

from typing import Any

from ray.tune.search import Searcher

from sisr.cluster.slices import outcome, release
from sisr.cluster.trial_allocation import TrialAllocation
from sisr.driver.sweep.host import SliceSource, Task


class SliceSearcher(Searcher):
    """Offers Tune one slice at a time, as there is room, and hands back how each ended."""

    def __init__(self, source: SliceSource, allocation: TrialAllocation) -> None:
        """Search nothing: the source decides.

        Args:
            source: Of the slices.
            allocation: What each gets.
        """
        super().__init__()
        self._source, self._allocation = source, allocation
        self._live: dict[str, Task] = {}
        self.error: BaseException | None = None  # what the source raised: Tune would hand on its text only

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next slice as a trial's config, None for nothing now, or FINISHED."""
        try:
            task = self._source.next_task()
            if task is None:
                return None if self._live or not self._source.finished() else str(Searcher.FINISHED)
        except BaseException as error:
            self.error = error
            raise
        self._live[trial_id] = task
        return {"task": task, "allocation": self._allocation}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Hand a slice's end to the source."""
        task = self._live.pop(trial_id)
        try:
            if self._allocation.nested:
                release(task.folder)
            self._source.ended(task, outcome(task, None if error else result))
        except BaseException as problem:
            self.error = problem
            raise

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Tune pickles its searcher for a restart that nobody asks for, and the driver holds locks."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the ledger is the memory."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""
