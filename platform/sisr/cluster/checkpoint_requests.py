"""Checkpoints just before Ray takes workers away: when a node is to be preempted, and when a run is to grow.

Both reach the first worker's process through Ray, not through files: another host's new file may stay unseen for a
minute on NFS, and a node may be gone by then.
"""

import threading
import time
from typing import Any

LAST_SAVE_S = 20.0  # before a node goes
PATIENCE_S = 60.0  # how long a resize waits for a checkpoint; without one the run loses the steps since the last

_requested, _saved = threading.Event(), threading.Event()


def save_now() -> bool:
    """Request a checkpoint from this process's training thread, and return whether it was written in time."""
    _saved.clear()
    _requested.set()
    return _saved.wait(PATIENCE_S)


def is_requested() -> bool:
    """Return whether a checkpoint was requested in this process and is not written yet."""
    return _requested.is_set()


def confirm_saved() -> None:
    """Let `save_now` return: a checkpoint was written."""
    _requested.clear()
    _saved.set()


class PreemptionWatch:
    """Decides when to save because nodes of this run will be taken away, as Ray announces it to its workers.

    The documented `ray.train.get_preemption_info` makes all workers wait for each other, through an actor, at every
    call. The first worker's own view is enough: whether to save is agreed upon anyway.
    """

    def __init__(self, context: Any) -> None:
        """Watch a worker's `PreemptionContext`, which Ray changes when a preemption is announced."""
        self._context = context
        self._seen: Any = None
        self._again_at = float("inf")  # seconds of the clock on the wall, as Ray gives the deadline

    def requests_checkpoint(self) -> bool:
        """Return whether to save now: once when nodes are announced to go, and once shortly before they do."""
        info = self._context.preemption_info
        if info is not None and info is not self._seen:
            self._seen = info
            self._again_at = float("inf") if info.deadline_ms is None else info.deadline_ms / 1000 - LAST_SAVE_S
            if time.time() >= self._again_at:
                self._again_at = float("inf")  # this save is the last one
            return True
        if time.time() >= self._again_at:
            self._again_at = float("inf")
            return True
        return False
