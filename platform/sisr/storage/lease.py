"""Who owns a run in object storage: one object, written under conditions, renewed while its owner lives.

Nobody compares clocks. An owner writes a new `beat` every few seconds; who wants to take over watches the object, and
does so once it has not changed for `ttl_s` seconds of the watcher's own monotonic clock. A wrong clock can't make two
owners, and an owner that could not renew in time finds out with its next conditional write.

Each change of owner, and of the owner's process that writes, counts the generation up. It is part of the name of every
object that is uploaded, so that what an earlier one still writes is not looked at by anybody (a fencing token).
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace

from sisr.errors import ConfigError, RunLockedError, StorageError
from sisr.storage.bucket import Bucket, ChangedError
from sisr.storage.claim import NAME, Claim, read

TTL = "SISR_LEASE_S"  # environment variable
TTL_S = 60.0
BEATS = 6  # renewals within the time after which others take over


class Lease:
    """The ownership of a run, renewed by a thread until it is released or lost."""

    def __init__(
        self, bucket: Bucket, claim: Claim, etag: str, previous: int | None, *, of_worker: bool = False
    ) -> None:
        """Keep what was acquired; see `acquire` and `join`. A worker has lost it to its owner's next one, too."""
        self.bucket, self.claim, self.previous, self._of_worker = bucket, claim, previous, of_worker
        self._identity = uuid.uuid4().hex
        self.lost: str | None = None  # who has taken over, in words
        self._etag = etag
        self._lock = threading.RLock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew_regularly, name="lease", daemon=True)
        self._thread.start()

    @property
    def generation(self) -> int:
        """The number of this ownership."""
        return self.claim.generation

    def renew(self) -> None:
        """Write a new beat now.

        Raises:
            RunLockedError: Another owner has taken over.
            StorageError: Nobody knows.
        """
        with self._lock:
            if self.lost:
                raise RunLockedError(self.lost)
            wanted = replace(self.claim, beat=self.claim.beat + 1)
            try:
                self._etag = self.bucket.put_if(NAME, wanted.encoded(), self._etag)
                self.claim = wanted
            except ChangedError:
                self._look()

    def raise_generation(self) -> None:
        """Count the generation up: what was written under the last one, from now on, is looked at by nobody.

        Raises:
            RunLockedError: Another owner has taken over.
            StorageError: Nobody knows.
        """
        with self._lock:
            last = self.claim.generation
            while self.claim.writer != self._identity or self.claim.generation == last:
                last = self.claim.generation
                wanted = replace(self.claim, generation=last + 1, beat=self.claim.beat + 1, writer=self._identity)
                try:
                    self._etag = self.bucket.put_if(NAME, wanted.encoded(), self._etag)
                    self.claim = wanted
                except ChangedError:  # by a beat of the owner's other processes; or the answer to our own was lost
                    self._look(joining=True)
            self.previous = last

    def end(self) -> None:
        """Renew it no longer; its owner has it still."""
        self._done.set()
        self._thread.join()

    def release(self) -> None:
        """Let anybody have the run at once. Where storage is away, the lease runs out."""
        self.end()
        with self._lock:
            try:
                if not self.lost:
                    self.bucket.put_if(NAME, replace(self.claim, released=True).encoded(), self._etag)
            except (StorageError, ChangedError):
                pass

    def _look(self, joining: bool = False) -> None:
        """After a refused write: it may be our own, of which the answer was lost."""
        found = read(self.bucket)
        another = self._of_worker and not joining and found is not None and found[0].writer != self._identity
        if found is None or found[0].nonce != self.claim.nonce or another:
            who = f"{found[0].owner}, generation {found[0].generation}" if found else "somebody who deleted its lease"
            self.lost = f"run {self.bucket.address} was taken over by {who}, while it was out of reach from here"
            raise RunLockedError(self.lost)
        self.claim, self._etag = found

    def _renew_regularly(self) -> None:
        while not self._done.wait(self.claim.ttl_s / BEATS):
            try:
                self.renew()
            except RunLockedError:
                return
            except StorageError:
                continue  # the mirror says that storage is away


def acquire(bucket: Bucket, place: str, wait: Callable[[str], None] = lambda text: None) -> Lease:
    """Become the owner of a run: at once where nobody is or the last one is known to be gone, else by watching it.

    Args:
        bucket: The run's.
        place: See `place_of`; its lock is held by this process.
        wait: Is told what is waited for.

    Raises:
        RunLockedError: Its owner lives.
        StorageError: Storage can't be used.
    """
    ttl_s = _ttl_s()
    nonce = uuid.uuid4().hex
    owner = f"process {os.getpid()} on {socket.gethostname()}"
    ours = Claim(1, owner, nonce, place, ttl_s)
    found = read(bucket)
    if found is not None and not found[0].released and found[0].place != place:
        _watch(bucket, *found, max(ttl_s, found[0].ttl_s), wait)
    claim = replace(ours, generation=found[0].generation + 1) if found else ours
    try:
        etag = bucket.put_if(NAME, claim.encoded(), found[1] if found else None)
    except ChangedError:
        found_now = read(bucket)
        if found_now is None or found_now[0].nonce != nonce:  # else the answer to our own write was lost
            raise _held(bucket, found_now[0] if found_now else None) from None
        etag = found_now[1]
    return Lease(bucket, claim, etag, found[0].generation if found else None)


def join(bucket: Bucket, nonce: str) -> Lease:
    """Become the worker that writes an owner's run, under a generation of its own; the workers before it no longer do.

    Args:
        bucket: The run's.
        nonce: The owner's.

    Raises:
        RunLockedError: It is another's run by now.
        StorageError: Storage can't be used.
    """
    found = read(bucket)
    if found is None or found[0].nonce != nonce or found[0].released:
        raise _held(bucket, found[0] if found else None)
    joined = Lease(bucket, *found, None, of_worker=True)
    try:
        joined.raise_generation()
    except BaseException:
        joined.end()
        raise
    return joined


def _watch(bucket: Bucket, claim: Claim, etag: str, ttl_s: float, wait: Callable[[str], None]) -> None:
    """Return once a lease has not changed for `ttl_s` seconds; raise RunLockedError when it changes."""
    wait(f"{bucket.address} was last owned by {claim.owner}: watching {ttl_s:g} s whether it still is")
    began = time.monotonic()
    while time.monotonic() - began < ttl_s:
        time.sleep(min(1.0, ttl_s / BEATS))
        found = read(bucket)
        if found is None or found[1] != etag:
            if found is not None and found[0].released:
                raise RunLockedError(f"run {bucket.address} has just been left by {claim.owner}: try again")
            raise _held(bucket, claim)


def _held(bucket: Bucket, claim: Claim | None) -> RunLockedError:
    holder = claim.owner if claim else "another process"
    return RunLockedError(f"run {bucket.address} is held by {holder}: wait for it, stop it, or use another --name")


def _ttl_s() -> float:
    given = os.environ.get(TTL)
    try:
        found = float(given) if given else TTL_S
    except ValueError:
        found = 0.0
    if not 1 <= found <= 3600:
        raise ConfigError(f"{TTL}={given}: give seconds, 1 to 3600")
    return found
