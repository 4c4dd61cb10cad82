"""Runs whose cluster has too few nodes for them: said to the user, and ended when none come."""

import time
from typing import Any

from sisr.cluster import capacity
from sisr.cluster.capacity import Resources
from sisr.disk.run_folder import RunFolder
from sisr.driver.run.workers import Workers
from sisr.errors import StoppedError

LOOK_EVERY_S = 5.0
SAY_AFTER_S = 15.0


class Waiting:
    """Looks from the driver whether there is room for a run's workers."""

    def __init__(self, ray: Any, folder: RunFolder, workers: Workers, each: Resources, patience_s: float) -> None:
        """Begin to look.

        Args:
            ray: Connected to the cluster.
            folder: The run's.
            workers: How many.
            each: What each of them needs.
            patience_s: How long there may be too little of it.
        """
        self._ray, self._folder, self._workers, self._each = ray, folder, workers, each
        self.patience_s = patience_s
        need = " and ".join(f"{amount:g} {name}" for name, amount in each.items() if amount)
        self._need = f"{workers.least} worker{'s' if workers.least > 1 else ''} x {need}"
        self._looked = self._since = time.monotonic()
        self._said = False

    def look(self) -> None:
        """Warn where room is missing for some time.

        Raises:
            StoppedError: It is missing for too long. (Where the number of workers is fixed, Ray itself gives up.)
        """
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY_S:
            return
        self._looked = now
        if capacity.read(self._ray).fits(self._each) >= self._workers.least:
            self._since, self._said = now, False
            return
        waited = now - self._since
        if waited >= SAY_AFTER_S and not self._said:
            self._said = True
            self._folder.warn(
                f"waiting for nodes with room for {self._need}, {self.patience_s / 60:.0f} minutes at most; "
                "`ray status` shows what there is and what is asked for"
            )
        if waited >= self.patience_s and self._workers.elastic:
            raise self.given_up()

    def given_up(self) -> StoppedError:
        """Return what to say when too few nodes came."""
        return StoppedError(
            f"run {self._folder.path.name} found no room for {self._need} within {self.patience_s / 60:.0f} minutes; "
            "the same command goes on from its last checkpoint"
        )
