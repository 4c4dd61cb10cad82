"""A run whose workers are on other machines, which have nothing in common with its owner's but the bucket.

The owner keeps the lease. The first of the workers, wherever it is, joins it: it counts the generation up, fetches the
run into a folder of its own machine, and mirrors that one. The owner's folder follows, without checkpoints, so that
there is something to show and to deliver; when the workers have ended, it is the run again. Whoever was lost or cut off
writes under a generation at which nobody looks.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sisr.disk import atomic, lock
from sisr.disk.run_folder import RunFolder
from sisr.errors import SisrError, StorageError
from sisr.storage import claim, lease, snapshot
from sisr.storage.address import parse, place_here
from sisr.storage.bucket import Bucket
from sisr.storage.mirror import STOP, Mirror
from sisr.storage.ownership import FETCHING, Owned, Say, finish, read_state, take_over, write_state

EVERY_S = 3.0  # between two looks at what the workers have written, and at whether they shall stop
GIVE_UP_S = 60.0  # for the lock of whoever else fetches into a machine's folder


@dataclass(frozen=True)
class Ticket:
    """What workers need to write an owner's run: it travels to them with their task."""

    address: str  # the run's, with its options
    nonce: str  # of the owner's lease
    next_run: str  # the record that takes effect once a checkpoint was restored with it; empty: none


@contextmanager
def handed_over(owned: Owned, say: Say) -> Iterator[Ticket]:
    """Let workers on other machines write a run while the block executes; then its folder holds what they wrote.

    Args:
        owned: The run, which this process owns.
        say: Tells the user.

    Raises:
        RunLockedError: Another owner has taken over.
        StorageError: Storage does not answer.
    """
    folder = owned.folder
    owned.mirror.finish(say)
    owned.bucket.delete([STOP])
    next_run = folder.next_run.read_text() if folder.next_run.is_file() else ""
    follower = _Follower(owned, say)
    try:
        yield Ticket(owned.bucket.address.written, owned.lease.claim.nonce, next_run)
    except Exception:
        follower.end()
        try:
            _take_back(owned, say)
        except SisrError as error:  # the one before counts more
            say(str(error))
        raise
    else:
        follower.end()
        _take_back(owned, say)
    finally:
        follower.end()


def _take_back(owned: Owned, say: Say) -> None:
    """Make the owner's folder the run again, so that its end can be recorded."""
    folder = owned.folder
    owned.lease.raise_generation()
    with lock.held(folder.path.parent / FETCHING / folder.path.name):
        base = take_over(owned.bucket, owned.lease, folder.path, read_state(folder.path), say)
    if folder.next_run.is_file() and _created(folder.next_run) == _created(folder.run):
        folder.next_run.unlink()  # it took effect where the workers were
    owned.mirror.go_on(base)


def _created(record: Path) -> object:
    try:
        return json.loads(record.read_text())["created"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


class _Repeated:
    """Something done again and again in a thread, of which it does not matter when storage is away for a while."""

    def __init__(self, look: Callable[[], None], away: Callable[[str], None] = lambda problem: None) -> None:
        self._look, self._away = look, away
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="handover", daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._ending.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._ending.wait(EVERY_S):
            try:
                self._look()
            except StorageError as error:
                self._away(str(error))


class _Follower(_Repeated):
    """Brings what the workers write into the owner's folder, but checkpoints, and passes on that they shall stop."""

    def __init__(self, owned: Owned, say: Say) -> None:
        self._owned, self._say = owned, say
        self._told = self._silent = False
        super().__init__(self._follow, self._say_once)

    def _follow(self) -> None:
        owned = self._owned
        if owned.folder.stop_requested() and not self._told:
            owned.bucket.put(STOP, b"")
            self._told = True
        snapshot.fetch_newest(owned.bucket, owned.folder.path, lambda path: "checkpoints" not in Path(path).parts)
        self._silent = False

    def _say_once(self, problem: str) -> None:
        if not self._silent:
            self._say(f"{problem}. What the workers write is seen later")
        self._silent = True


@contextmanager
def joined(ticket: Ticket, first: bool, wait_for_others: Callable[[], None]) -> Iterator[RunFolder]:
    """Work on an owner's run in this machine's own folder, which the block gets.

    What the first worker writes there goes to storage; when the block has ended, all of it is there, or an error says
    what is lacking. The others have what it begins with.

    Args:
        ticket: The owner's.
        first: Whether this is the first worker, which writes.
        wait_for_others: Returns once all workers have called it.

    Raises:
        RunLockedError: The run has another owner, or workers that came later.
        StorageError: Storage can't be used.
    """
    bucket = Bucket(parse(ticket.address))
    folder = RunFolder(place_here(bucket.address, "workers"))
    fetching = folder.path.parent / FETCHING / folder.path.name
    if first:
        with _writing(bucket, ticket, folder, fetching):
            wait_for_others()
            yield folder
        return
    wait_for_others()
    with lock.held(fetching, wait_s=GIVE_UP_S):
        _copy(bucket, folder.path)
    yield folder


@contextmanager
def _writing(bucket: Bucket, ticket: Ticket, folder: RunFolder, fetching: Path) -> Iterator[None]:
    with ExitStack() as stack:
        held = lease.join(bucket, ticket.nonce)
        stack.callback(held.end)
        said: list[str] = []
        with lock.held(fetching, wait_s=GIVE_UP_S):
            base = take_over(bucket, held, folder.path, read_state(folder.path), said.append)
        for text in said:
            if text.startswith("warning"):
                folder.warn(text)  # which would have been replaced before
        folder.clear_stop()
        folder.next_run.unlink(missing_ok=True)
        if ticket.next_run:
            atomic.write_text(folder.next_run, ticket.next_run)
        mirror = Mirror(
            folder.path, bucket, held, base, confirm=folder.confirm, warn=folder.warn, stop=folder.request_stop
        )
        stack.callback(mirror.abandon)

        def look_for_stop() -> None:
            if bucket.get(STOP) is not None:
                folder.request_stop()

        stack.callback(_Repeated(look_for_stop).end)
        try:
            yield
        finally:
            finish(mirror, folder.warn)


def _copy(bucket: Bucket, folder: Path) -> None:
    """Make a folder what the run is now, unless its writer is on this machine, too."""
    claimed, state = claim.read(bucket), read_state(folder)
    if claimed is not None and state.generation == claimed[0].generation:
        return
    write_state(folder, replace(state, generation=0))
    found, _ = snapshot.fetch_newest(bucket, folder)
    if found is not None:
        snapshot.remove_others(folder, found)
