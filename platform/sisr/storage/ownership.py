"""A working folder and its run in storage: taking the run over, working on it, and leaving it."""

import json
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sisr.disk import atomic, lock
from sisr.disk.run_folder import LOCK, RunFolder
from sisr.errors import SisrError
from sisr.storage import address, claim, lease, snapshot
from sisr.storage.bucket import Bucket
from sisr.storage.mirror import Mirror
from sisr.storage.snapshot import FILE, Snapshot, Wanted

STATE = ".storage.json"  # in a working folder
FETCHING = ".fetching"  # the lock of whoever brings files into it

Say = Callable[[str], None]


@dataclass(frozen=True)
class State:
    """What a working folder is: the place of an owner, or a reader's copy."""

    identity: str
    generation: int = 0  # of the run, when this folder's content last was the run's truth; 0: never
    bytes: int = 0  # of a reader's copy: what the run takes, fetched or not
    owner: str = ""  # of a reader's copy: who has the run, and has not left it


def has_no_state(path: str) -> bool:
    """Return whether a file is none of those that only training needs: what a reader fetches."""
    return not path.endswith("state.pt")


def refresh(folder: Path, wanted: Wanted = has_no_state) -> Path:
    """Bring a run of an address into its working folder, for who reads it, and return the folder.

    The folder may be one in the run's, such as a trial's. One that is not an address's, or on which a process of this
    machine is at work, is left as it is.

    Raises:
        StorageError: Storage does not answer.
        DiskError: There is no room.
    """
    for runs in folder.parents:
        if (place := address.of_folder(runs)) is not None:
            name = folder.relative_to(runs).parts[0]
            _refresh(runs / name, Bucket(place / name), wanted)
            break
    return folder


def folder_of(name: str, runs: Path, wanted: Wanted = has_no_state) -> Path:
    """Return the folder of the run with a name, or an address, as it is now; see `refresh`. It need not exist.

    Raises:
        ConfigError: The address can't be used.
        StorageError: Storage does not answer.
    """
    if not address.is_address(name):
        return refresh(runs / name, wanted)
    place = address.parse(name)
    return refresh(address.runs_folder(place.parent.written) / place.name, wanted)


def _refresh(folder: Path, bucket: Bucket, wanted: Wanted) -> None:
    if lock.is_held(folder / LOCK) or (claimed := claim.read(bucket)) is None:
        return
    with lock.held(folder.parent / FETCHING / folder.name):
        # What this folder's own process wrote last, before it was killed, may be newer than storage.
        if lock.is_held(folder / LOCK) or read_state(folder).generation == claimed[0].generation:
            return
        found, _ = snapshot.fetch_newest(bucket, folder, wanted)
        if found is not None:
            snapshot.remove_others(folder, found, wanted)
            size = sum(entry.bytes for entry in found.files.values())
            owner = "" if claimed[0].released else claimed[0].owner
            write_state(folder, replace(read_state(folder), generation=0, bytes=size, owner=owner))


def refresh_all(runs: Path, wanted: Wanted = has_no_state) -> None:
    """Bring all runs of an address into their working folders; see `refresh`.

    Raises:
        StorageError: Storage does not answer.
    """
    if (place := address.of_folder(runs)) is not None:
        for name in Bucket(place).folders():
            _refresh(runs / name, Bucket(place / name), wanted)


def delete(folder: Path, say: Say) -> None:
    """Delete what storage has of a run; nothing where its runs lie in none. The folder's lock is held.

    Raises:
        RunLockedError: Somebody owns it.
        StorageError: Storage can't be used.
    """
    if (place := address.of_folder(folder.parent)) is None:
        return
    bucket = Bucket(place / folder.name)
    held = lease.acquire(bucket, claim.place_of(read_state(folder).identity), say)
    try:
        bucket.delete_all([name for name in bucket.names() if name != claim.NAME])
    finally:
        held.release()
    bucket.delete_all([claim.NAME])


@dataclass(frozen=True)
class Owned:
    """A run that this process owns."""

    folder: RunFolder
    bucket: Bucket
    lease: lease.Lease
    mirror: Mirror


_owned: dict[Path, Owned] = {}  # by the folder's path


def found_owned(folder: Path) -> Owned | None:
    """Return what this process owns in storage of the run in a folder; None where that lies in none."""
    return _owned.get(folder.absolute())


@contextmanager
def owned(folder: RunFolder, say: Say) -> Iterator[Mirror | None]:
    """Own a run in storage while the block executes, and mirror its folder; None where its runs lie in no storage.

    The folder's lock is held. It holds what storage has when the block begins; when it has ended, storage has it all,
    or an error says what it lacks. An error of the block counts more.

    Args:
        folder: The run's.
        say: Tells the user.

    Raises:
        RunLockedError: Somebody else owns the run, or has taken it over meanwhile.
        StorageError: Storage can't be used.
    """
    place = address.of_folder(folder.path.parent)
    if place is None:
        yield None
        return
    bucket = Bucket(place / folder.path.name)
    state = read_state(folder.path)
    held = lease.acquire(bucket, claim.place_of(state.identity), say)
    mirror: Mirror | None = None
    try:
        with lock.held(folder.path.parent / FETCHING / folder.path.name):
            base = take_over(bucket, held, folder.path, state, say)
        mirror = Mirror(
            folder.path,
            bucket,
            held,
            base,
            confirm=folder.confirm,
            warn=folder.warn,
            stop=folder.request_stop,
        )
        say(f"what the run writes goes to {bucket.address}; it is worked on in {folder.path}")
        _owned[folder.path.absolute()] = Owned(folder, bucket, held, mirror)
        yield mirror
    finally:
        _owned.pop(folder.path.absolute(), None)
        try:
            if mirror is not None and not isinstance(sys.exc_info()[1], KeyboardInterrupt):
                finish(mirror, say)
        finally:
            if mirror is not None:
                mirror.abandon()
            held.release()


def finish(mirror: Mirror, say: Say) -> None:
    """Wait until everything is in storage; on the way of an error, only say what is lacking."""
    failing = sys.exc_info()[1] is not None
    try:
        mirror.finish(say)
    except SisrError as error:
        if not failing:
            raise
        say(str(error))


def take_over(bucket: Bucket, held: lease.Lease, folder: Path, state: State, say: Say) -> Snapshot:
    """Make a folder what the run is, and the run that of a lease's holder; return what storage holds of it."""
    found = snapshot.newest(bucket, held.previous) if held.previous else None
    base = Snapshot(held.generation, found.files if found else {})
    # First of all: what an earlier owner, cut off and not aware of it, still writes no longer counts from here on.
    bucket.put(f"{snapshot.folder_of(held.generation)}/{FILE}", base.encoded())
    if found is not None and state.generation != held.previous:
        # Somebody else has gone on since, or nobody was ever here.
        say(f"fetching run {folder.name} from {bucket.address}")
        for problem in snapshot.fetch(bucket, base, folder):
            say(f"warning: {bucket.address}: {problem}")
        snapshot.remove_others(folder, base)
    write_state(folder, replace(state, generation=held.generation, bytes=0, owner=""))
    return base


def read_state(folder: Path) -> State:
    """Return what a working folder is; a new place where it is none."""
    try:
        return State(**json.loads((folder / STATE).read_text()))
    except (OSError, ValueError, TypeError):
        return State(uuid.uuid4().hex)


def write_state(folder: Path, state: State) -> None:
    """Write down what a working folder is."""
    atomic.write_json(folder / STATE, asdict(state))
