"""A run, or a sweep with all its trials, on the way to MLflow: one MLflow run each, a trial's below its sweep's."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from sisr.disk.lock import is_held
from sisr.disk.sweep_folder import trials
from sisr.errors import TrackingError
from sisr.tracking import address, outbox
from sisr.tracking.address import Address
from sisr.tracking.delivery import Delivery
from sisr.tracking.failures import OfflineError

ATTEMPTS = 3  # files that may fail in one round, before all others wait for the next
MAX_PAUSE_S = 30.0  # between two rounds while the artifact store takes no files


class Family:
    """The outboxes that one process delivers together; trials are found as they appear.

    Between two deliveries only the size of a trial's outbox is kept: hundreds of trials take no memory or open files.

    Args:
        folder: Of a run or a sweep.
        place: Where it is recorded.
        notify: Gets a line about each trial, and each run's first record, that can't be delivered for good.
    """

    def __init__(self, folder: Path, place: Address, notify: Callable[[str], None]):
        self.head = Delivery(folder, place, notify=notify)  # the run's own outbox, or the sweep's
        self.files_wait = ""  # why the artifact store does not take files; empty: all are there
        self._notify = notify
        self._sizes: dict[Path, int] = {}  # bytes of a trial's outbox that need not be looked at again
        self._skipped: set[Path] = set()
        self._failures: Counter[Path] = Counter()
        self._rounds_failed, self._next_round = 0, 0.0

    def deliver(self, *, at_once: bool = False) -> None:
        """Send everything that the outboxes hold now, the sweep's own first; `files_wait` says why files are not there.

        Files that wait are tried `at_once` although they have failed just now.

        Raises:
            OfflineError: Not everything could be sent. The trial where that happened lets the others pass next time.
            TrackingError: The MLflow run of the run or sweep was deleted.
        """
        attempts = ATTEMPTS if at_once or time.monotonic() >= self._next_round else 0
        failed = self.head.deliver(attempts)
        waits = bool(self.head.progress.waiting)
        # While the sweep has no MLflow run its outbox is empty, and its trials' runs must know their parent.
        if self.head.place.run_id is not None:
            for folder, size in sorted(self._grown(), key=lambda trial: self._failures[trial[0]]):
                trial_failed, trial_waits = self._deliver_trial(folder, attempts - len(failed))
                failed += trial_failed
                waits |= trial_waits
                self._failures[folder] += len(trial_failed)
                self._sizes[folder] = -1 if trial_waits else size
        if failed:
            self._rounds_failed += 1
            self._next_round = time.monotonic() + min(2**self._rounds_failed, MAX_PAUSE_S)
        elif not waits:
            self._rounds_failed = 0
        self.files_wait = (failed[0] if failed else self.files_wait) if waits else ""

    def is_written(self, *, driver_ends: bool) -> bool:
        """Whether a living process writes any of the outboxes; only trials' where the driver ends, and waits for us."""
        folders = self._trials() if driver_ends else [self.head.run_dir, *self._trials()]
        return any(is_held(folder / outbox.FILE) for folder in folders)

    def close_lost_runs(self, *, driver_ends: bool) -> None:
        """Mark runs killed whose process ended without a last status.

        Where the driver does not end, and waits for us, it is lost too, or another one has taken over.

        Raises:
            OfflineError: The server can't be reached.
            TrackingError: The MLflow run of the run or sweep was deleted.
        """
        if not driver_ends:
            if _in_use(self.head.run_dir):
                return  # and trials that nobody executes at the moment may be waiting for their turn
            self.head.close_lost_run()
        for folder in self._trials():
            if not _in_use(folder) and (folder / outbox.FILE).is_file():
                with suppress(TrackingError):  # deleted in MLflow: nobody will miss its state
                    self._trial(folder).close_lost_run()

    def _trials(self) -> list[Path]:
        return [folder for folder in trials(self.head.run_dir) if not folder.is_symlink()]

    def _grown(self) -> Iterator[tuple[Path, int]]:
        """Yield the trials whose outbox has changed since it was delivered, or whose files wait, with its size."""
        for folder in self._trials():
            with suppress(FileNotFoundError):
                size = (folder / outbox.FILE).stat().st_size
                if folder not in self._skipped and size != self._sizes.get(folder):
                    yield folder, size

    def _trial(self, folder: Path) -> Delivery:
        place = address.of_trial(folder, self.head.place)
        return Delivery(folder, place, self.head.place.run_id, self._notify)

    def _deliver_trial(self, folder: Path, attempts: int) -> tuple[list[str], bool]:
        """Return why files of a trial failed, and whether any wait."""
        trial = self._trial(folder)
        try:
            return trial.deliver(max(attempts, 0)), bool(trial.progress.waiting)
        except OfflineError:
            self._failures[folder] += 1
            raise
        except TrackingError as error:  # somebody tidies up in MLflow while the sweep goes on
            self._skipped.add(folder)
            self._notify(f"trial {folder.name} is skipped: {error}")
        except FileNotFoundError:
            pass  # somebody removed its folder just now
        return [], False


def _in_use(run_dir: Path) -> bool:
    """Whether somebody executes the run or sweep, or writes its outbox."""
    return is_held(run_dir / outbox.FILE) or is_held(run_dir / ".lock")
