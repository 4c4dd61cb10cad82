"""Brings what a run writes on this machine to storage, in a thread for which nobody waits but the run's end.

Ray Train's asynchronous upload is not used: it uploads what is reported as Ray's checkpoint, and its snapshot, which is
rewritten in place, would decide what a run goes on from. Here the run's own verified checkpoints stay the truth, and
journals, samples and records go the same way.
"""

import hashlib
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from sisr.errors import DiskError, RunLockedError, SisrError, StorageError
from sisr.storage.bucket import AT_ONCE, Bucket
from sisr.storage.claim import NAME as LEASE
from sisr.storage.lease import Lease
from sisr.storage.parts import SMALL, cut, groups
from sisr.storage.snapshot import FILE, Entry, Signature, Snapshot, folder_of, local_files, signature

STOP = "stop"  # an object: the owner wants its workers on other machines to save and end

EVERY_S = 3.0  # between two looks for what has changed
LONGEST_PAUSE_S = 60.0  # between two tries while storage is away
COLLECT_EVERY_S = 600.0  # between two looks for objects that no snapshot names; readers have as long to fetch them
GIVE_UP_S = 300.0  # without anything arriving, at the run's end
RATE_OVER_S = 30.0


class Mirror:
    """The upload of one run by its owner."""

    def __init__(
        self,
        folder: Path,
        bucket: Bucket,
        lease: Lease,
        base: Snapshot,
        *,
        confirm: Callable[[], None],
        warn: Callable[[str], None],
        stop: Callable[[], None],
    ) -> None:
        """Begin with what is in storage already.

        Args:
            folder: The run's, on this machine.
            bucket: The run's, in storage.
            lease: Which says that we own it.
            base: What it holds, as this owner's snapshot.
            confirm: Raises DiskError where the folder is no longer the run's.
            warn: Tells the user, now.
            stop: Ends the run; called when another owner has taken over.
        """
        self._folder, self._bucket, self._lease, self._snapshot = folder, bucket, lease, base
        self._confirm, self._warn, self._stop = confirm, warn, stop
        self._seen: dict[str, tuple[Signature, Entry]] = {}
        self._sent: deque[tuple[float, int]] = deque()  # when, and how many bytes
        self._backlog: dict[str, int] = {}  # bytes by path
        self._unnamed: dict[str, float] = {}  # objects that no snapshot names, and since when
        self._collected_at = time.monotonic()
        self._problem = ""  # why storage can't be used; empty while it can
        self._moved_at = time.monotonic()  # when something last arrived
        self.failure: SisrError | None = None  # that ended the upload
        self._ending, self._abandoned = threading.Event(), threading.Event()
        self._start()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
        self._thread.start()

    def go_on(self, base: Snapshot) -> None:
        """Mirror the folder again after `finish`, when somebody else has written the run; see `__init__`."""
        self._snapshot, self._moved_at = base, time.monotonic()
        self._seen.clear()
        self._ending.clear()
        self._start()

    def standing(self) -> str:
        """Return in a few words how the upload stands; nothing where there is nothing to say."""
        waiting, now = sum(self._backlog.values()), time.monotonic()
        if self._problem:
            return f"{self._bucket.address} is away, {waiting / 1e6:,.1f} MB wait"
        while self._sent and now - self._sent[0][0] > RATE_OVER_S:
            self._sent.popleft()
        rate = sum(size for _, size in self._sent) / RATE_OVER_S
        return f"{waiting / 1e6:,.1f} MB to upload at {rate / 1e6:,.1f} MB/s" if waiting >= SMALL else ""

    def finish(self, say: Callable[[str], None]) -> None:
        """Return once everything is in storage; say what is waited for.

        Raises:
            RunLockedError: Another owner has taken over.
            StorageError: Nothing arrived for `GIVE_UP_S` seconds.
            DiskError: The folder is no longer the run's.
        """
        self._ending.set()
        self._moved_at = time.monotonic()
        self._thread.join(EVERY_S)
        if self._thread.is_alive():
            say(f"waiting until the run's end is at {self._bucket.address}: {self._waiting()}")
        while self._thread.is_alive():
            self._thread.join(1.0)
            if time.monotonic() - self._moved_at > GIVE_UP_S and self._thread.is_alive():
                raise StorageError(
                    f"{self._problem or f'{self._bucket.address} does not answer'}. Only {self._folder} holds "
                    f"{self._waiting()}: the same command brings it there"
                )
        if self.failure is not None:
            raise self.failure

    def abandon(self) -> None:
        """Upload nothing more; before somebody else may own the run."""
        self._abandoned.set()
        self._ending.set()

    def _waiting(self) -> str:
        names = sorted(self._backlog, key=lambda path: -self._backlog[path])
        listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        return f"{sum(self._backlog.values()) / 1e6:,.1f} MB ({listed})"

    def _work(self) -> None:
        pause = EVERY_S
        while True:
            last = self._ending.is_set()
            try:
                self._require_lease()
                self._upload()
                self._answered()
                pause = EVERY_S
                if last:
                    self._collect(0.0)
                    return
                if time.monotonic() - self._collected_at > COLLECT_EVERY_S:
                    self._collect(COLLECT_EVERY_S)
            except StorageError as error:
                self._away(str(error))
                pause = min(2 * pause, LONGEST_PAUSE_S)
                if last:
                    time.sleep(min(pause, EVERY_S))
                    continue
            except (RunLockedError, DiskError) as error:
                self.failure = error
                if not self._abandoned.is_set():
                    with suppress(OSError):  # the folder may be gone
                        self._stop()
                return
            except Exception as error:  # our mistake must not pass for a run that is safe
                self.failure = StorageError(f"the upload to {self._bucket.address} has failed: {error!r}")
                self._warn(str(self.failure))
                return
            self._ending.wait(pause)

    def _upload(self) -> None:
        """Bring everything that has changed to storage: small files first, then each checkpoint or other folder."""
        found = {path: seen for path in local_files(self._folder) if (seen := signature(self._folder / path))}
        changed = {path: size for path, (_, size, _) in found.items() if self._has_changed(path, found[path])}
        self._backlog = changed
        for group in groups(changed):
            entries = {}
            try:
                for path in group:
                    # No further than it was when its folder was looked at: what it names is there then, too.
                    with (self._folder / path).open("rb") as file:
                        known, put = self._snapshot.files.get(path), partial(self._put, path)
                        entries[path] = cut(file, found[path][1], known, put)
                    self._seen[path] = found[path], entries[path]
            except FileNotFoundError:
                continue  # removed meanwhile, such as a checkpoint that newer ones replace: the next look sees it
            self._commit({**{p: e for p, e in self._snapshot.files.items() if p in found}, **entries})
            self._backlog = {path: size for path, size in self._backlog.items() if path not in entries}
        if self._snapshot.files.keys() - found.keys():
            self._commit({path: entry for path, entry in self._snapshot.files.items() if path in found})

    def _has_changed(self, path: str, signature: Signature) -> bool:
        seen = self._seen.get(path)
        return seen is None or seen[0] != signature or self._snapshot.files.get(path) != seen[1]

    def _put(self, path: str, content: bytes) -> str:
        name = f"{folder_of(self._lease.generation)}/{path}@{hashlib.sha256(content).hexdigest()[:16]}"
        self._require_lease()
        self._bucket.put(name, content)
        self._unnamed.pop(name, None)  # it is in use again
        self._moved_at = time.monotonic()
        self._sent.append((self._moved_at, len(content)))
        return name

    def _commit(self, files: dict[str, Entry]) -> None:
        """Make this what the run is."""
        if files == self._snapshot.files:
            return
        self._confirm()
        self._require_lease()
        snapshot = Snapshot(self._lease.generation, files)
        self._bucket.put(f"{folder_of(snapshot.generation)}/{FILE}", snapshot.encoded())
        self._snapshot, self._moved_at = snapshot, time.monotonic()

    def _require_lease(self) -> None:
        if self._abandoned.is_set():
            raise RunLockedError(f"run {self._bucket.address} is no longer mirrored")
        if self._lease.lost:
            raise RunLockedError(self._lease.lost)

    def _collect(self, age_s: float) -> None:
        """Delete objects, of earlier owners, too, that no snapshot has named for a while: nobody fetches them any more.

        The lease is renewed just before, so that an owner that was cut off deletes nothing of its successor's.
        """
        named = self._snapshot.objects() | {LEASE, STOP, f"{folder_of(self._snapshot.generation)}/{FILE}"}
        now = self._collected_at = time.monotonic()
        surplus = [name for name in self._bucket.names() if name not in named]
        self._unnamed = {name: self._unnamed.get(name, now) for name in surplus}
        due = [name for name, since in self._unnamed.items() if now - since >= age_s]
        for first in range(0, len(due), AT_ONCE):
            self._lease.renew()
            self._bucket.delete(due[first : first + AT_ONCE])

    def _away(self, problem: str) -> None:
        if not self._problem and not self._ending.is_set():
            free = shutil.disk_usage(self._folder).free
            room = f"{self._folder} keeps it meanwhile ({free / 1e9:,.1f} GB free)"
            self._warn(f"{problem}. Training goes on; what it writes is uploaded later, {room}")
        self._problem = problem

    def _answered(self) -> None:
        if self._problem:
            self._warn(f"{self._bucket.address} answers again: everything is there")
        self._problem, self._moved_at = "", time.monotonic()
