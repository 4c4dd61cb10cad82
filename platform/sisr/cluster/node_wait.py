"""Runs that wait for nodes: their user is told, and they end when none come."""

import time
from typing import Any

from sisr.cluster import capacity
from sisr.cluster.capacity import Resources
from sisr.disk.run_folder import RunFolder
from sisr.driver.run.workers import Workers
from sisr.errors import StoppedError

CHECK_EVERY_S = 5.0
WARN_AFTER_S = 15.0


class NodeWait:
    """Whether there is room for a run's workers, as the driver sees it."""

    def __init__(self, ray: Any, folder: RunFolder, workers: Workers, each: Resources, patience_s: float) -> None:
        """Count the time from now.

        Args:
            ray: Connected to the cluster.
            folder: The run's.
            workers: How many.
            each: What each of them needs.
            patience_s: How long there may be too few nodes.
        """
        self._ray, self._folder, self._workers, self._each = ray, folder, workers, each
        self._patience_s = patience_s
        need = " and ".join(f"{amount:g} {name}" for name, amount in each.items() if amount)
        self._need = f"{workers.least} worker{'s' if workers.least > 1 else ''} x {need}"
        self._checked = self._since = time.monotonic()
        self._warned = False

    def check(self) -> None:
        """Warn where room is missing for some time.

        Raises:
            StoppedError: It is missing for too long. (Where the number of workers is fixed, Ray itself gives up.)
        """
        now = time.monotonic()
        if now - self._checked < CHECK_EVERY_S:
            return
        self._checked = now
        if capacity.read(self._ray).fits(self._each) >= self._workers.least:
            self._since, self._warned = now, False
            return
        waited = now - self._since
        if waited >= WARN_AFTER_S and not self._warned:
            self._warned = True
            self._folder.warn(
                f"waiting for nodes with room for {self._need}, {self._patience_s / 60:.0f} minutes at most; "
                "`ray status` shows what there is and what is asked for"
            )
        if waited >= self._patience_s and self._workers.elastic:
            raise self.error()

    def error(self) -> StoppedError:
        """Return the error of a run for which too few nodes came."""
        return StoppedError(
            f"run {self._folder.path.name} found no room for {self._need} within {self._patience_s / 60:.0f} minutes; "
            "the same command goes on from its last checkpoint"
        )
