"""Runs that have no workers for want of nodes: said to the user, and ended when none come."""

import time

from sisr.cluster.capacity import Resources
from sisr.cluster.worker import RESERVATION
from sisr.cluster.workers import Workers
from sisr.errors import StoppedError
from sisr.training.folder import RunFolder

LOOK_EVERY_S = 5.0
SAY_AFTER_S = 45.0  # starting processes on nodes that are there takes up to half of this


class Waiting:
    """Looks from the driver whether a run's workers are there."""

    def __init__(self, folder: RunFolder, workers: Workers, each: Resources, patience_s: float) -> None:
        """Begin to wait.

        Args:
            folder: The run's.
            workers: How many.
            each: What each of them needs.
            patience_s: How long the run may be without them.
        """
        self._folder, self._workers, self._patience_s = folder, workers, patience_s
        need = " and ".join(f"{amount:g} {name}" for name, amount in each.items() if amount)
        self._need = f"{workers.least} worker{'s' if workers.least > 1 else ''} x {need}"
        self._looked = self._since = time.monotonic()
        self._said = False

    def look(self) -> None:
        """Warn where workers are missing for some time.

        Raises:
            StoppedError: They are missing for too long. (Where their number is fixed, Ray itself ends the run.)
        """
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY_S:
            return
        self._looked = now
        if self._there():
            self._since, self._said = now, False
            return
        waited = now - self._since
        if waited >= SAY_AFTER_S and not self._said:
            self._said = True
            self._folder.warn(
                f"waiting for room for {self._need}, {self._patience_s / 60:.0f} minutes at most; "
                "`ray status` shows what there is and what is asked for"
            )
        if waited >= self._patience_s and self._workers.elastic:
            raise self.given_up()

    def given_up(self) -> StoppedError:
        """Return what to say when too few nodes came."""
        return StoppedError(
            f"run {self._folder.path.name} found no room for {self._need} within {self._patience_s / 60:.0f} minutes; "
            "the same command goes on from its last checkpoint"
        )

    def _there(self) -> bool:
        """Return whether the group of workers that last began to train still has its place."""
        import ray
        from ray.util.placement_group import PlacementGroup, placement_group_table

        try:
            identifier = (self._folder.path / RESERVATION).read_text()
            group = PlacementGroup(ray.PlacementGroupID(bytes.fromhex(identifier)))
        except (OSError, ValueError):  # not written yet, or just being written
            return False
        return bool(placement_group_table(group).get("state") == "CREATED")
