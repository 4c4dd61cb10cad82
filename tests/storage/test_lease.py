"""One owner of a run in object storage, whatever clocks, answers and processes do."""

import threading
import time

import pytest

from object_storage import Wire
from sisr.errors import RunLockedError
from sisr.storage import claim, lease
from sisr.storage.bucket import Bucket
from sisr.storage.lease import Lease

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(lease.TTL, "1.5")


def die(held: Lease) -> None:
    """Let an owner's process be gone."""
    held._done.set()
    held._thread.join()


def test_of_several_that_ask_at_once_one_owns_the_run(wire: Wire) -> None:
    owners, refused = list[Lease](), list[RunLockedError]()
    barrier = threading.Barrier(5)

    def ask(number: int) -> None:
        barrier.wait()
        try:
            owners.append(lease.acquire(Bucket(wire.address("runs/a")), f"place {number}"))
        except RunLockedError as error:
            refused.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(owners), len(refused)) == (1, 4)
    owners[0].release()


@pytest.mark.parametrize("shift_s", [-1e8, 1e8])
def test_a_wrong_clock_takes_no_run_from_a_living_owner(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, shift_s: float
) -> None:
    bucket = Bucket(wire.address("runs/a"))
    held = lease.acquire(bucket, "here")
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + shift_s)
    with pytest.raises(RunLockedError, match=r"run s3://lab/runs/a is held by process \d+ on .*: wait for it"):
        lease.acquire(bucket, "there")
    held.release()


def test_a_dead_owner_s_run_is_taken_over_after_its_time_and_not_before(wire: Wire) -> None:
    bucket = Bucket(wire.address("runs/a"))
    die(lease.acquire(bucket, "here"))
    began = time.monotonic()
    held = lease.acquire(bucket, "there")
    assert time.monotonic() - began >= 1.5
    assert (held.generation, held.previous) == (2, 1)
    held.release()
    again = lease.acquire(bucket, "elsewhere")
    assert again.generation == 3
    again.release()


def test_whoever_holds_the_same_place_need_not_wait(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = Bucket(wire.address("runs/a"))
    die(lease.acquire(bucket, "here"))
    monkeypatch.setattr("sisr.storage.lease._watch", lambda *_: pytest.fail("it waited"))
    lease.acquire(bucket, "here").release()


def test_an_owner_whose_answers_are_lost_stays_the_owner(wire: Wire) -> None:
    held = lease.acquire(Bucket(wire.address("runs/a")), "here")
    wire.fault, wire.only = "lost", "PUT"
    reached = wire.broken + 3
    while wire.broken < reached:
        time.sleep(0.05)
    wire.fault = None
    held.renew()
    assert held.lost is None
    held.release()


def test_an_owner_that_was_cut_off_learns_who_has_taken_over(wires: list[Wire]) -> None:
    cut, other = wires
    held = lease.acquire(Bucket(cut.address("runs/a")), "here")
    cut.fault = "cut"
    successor = lease.acquire(Bucket(other.address("runs/a")), "there")
    cut.fault = None
    with pytest.raises(RunLockedError, match=r"was taken over by process \d+ on .*, generation 2, while it was out of"):
        held.renew()
    successor.renew()
    held.release()
    assert claim.read(Bucket(other.address("runs/a")))[0].nonce == successor.claim.nonce  # type: ignore[index]
    successor.release()
