"""A run, or a sweep with all its trials, on the way to MLflow: one MLflow run each, a trial's below its sweep's."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from sisr.disk.lock import is_held
from sisr.disk.sweep_folder import trials
from sisr.errors import TrackingError
from sisr.tracking import address, outbox
from sisr.tracking.address import Address
from sisr.tracking.delivery import Delivery, OfflineError


class Family:
    """The outboxes that one process delivers together; trials are found as they appear.

    Between two deliveries only the size of a trial's outbox is kept: hundreds of trials take no memory or open files.
    """

    def __init__(self, folder: Path, place: Address, say: Callable[[str], None]):
        """Prepare; nothing is sent yet.

        Args:
            folder: Of a run or a sweep.
            place: Where it is recorded.
            say: Gets a line about each trial that can't be delivered for good.
        """
        self.head = Delivery(folder, place)  # the run's own outbox, or the sweep's
        self._say = say
        self._sizes: dict[Path, int] = {}  # bytes of a trial's outbox that need not be looked at again
        self._left_out: set[Path] = set()
        self._failures: Counter[Path] = Counter()

    def deliver(self) -> None:
        """Send everything that the outboxes hold now, the sweep's own first.

        Raises:
            OfflineError: Not everything could be sent. The trial where that happened lets the others pass next time.
            TrackingError: The MLflow run of the run or sweep was deleted.
        """
        self.head.deliver()
        if self.head.place.run_id is None:
            return  # its outbox is still empty, and the trials' runs must know their parent
        for folder, size in sorted(self._grown(), key=lambda trial: self._failures[trial[0]]):
            self._deliver_trial(folder)
            self._sizes[folder] = size

    def is_written(self, *, driver_ends: bool) -> bool:
        """Whether a living process writes any of the outboxes.

        Args:
            driver_ends: The driver has had its last word and waits for us: only its trials may still have one.
        """
        folders = self._trials() if driver_ends else [self.head.run_dir, *self._trials()]
        return any(is_held(folder / outbox.FILE) for folder in folders)

    def close_lost_runs(self, *, driver_ends: bool) -> None:
        """Mark runs killed whose process has vanished without a word.

        Args:
            driver_ends: As above; otherwise the driver is lost too, or another one has taken over.

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
        return trials(self.head.run_dir)

    def _grown(self) -> Iterator[tuple[Path, int]]:
        """Yield the trials whose outbox has changed since it was delivered, with its size."""
        for folder in self._trials():
            with suppress(FileNotFoundError):
                size = (folder / outbox.FILE).stat().st_size
                if folder not in self._left_out and size != self._sizes.get(folder):
                    yield folder, size

    def _trial(self, folder: Path) -> Delivery:
        return Delivery(folder, address.of_trial(folder, self.head.place), self.head.place.run_id)

    def _deliver_trial(self, folder: Path) -> None:
        try:
            self._trial(folder).deliver()
        except OfflineError:
            self._failures[folder] += 1
            raise
        except TrackingError as error:  # somebody tidies up in MLflow while the sweep goes on
            self._left_out.add(folder)
            self._say(f"trial {folder.name} is left out: {error}")
        except FileNotFoundError:
            pass  # somebody removed its folder just now


def _in_use(run_dir: Path) -> bool:
    """Whether somebody executes the run or sweep, or writes its outbox."""
    return is_held(run_dir / outbox.FILE) or is_held(run_dir / ".lock")
