"""Workers on other machines write a run whose owner has nothing in common with them but the bucket."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from object_storage import Wire
from sisr.disk.run_folder import RunFolder
from sisr.errors import RunLockedError
from sisr.storage import handover, lease, mirror, snapshot
from sisr.storage.address import runs_folder
from sisr.storage.bucket import Bucket
from sisr.storage.handover import Ticket, handed_over, joined
from sisr.storage.ownership import found_owned, owned

pytestmark = pytest.mark.slow
On = Callable[[str], AbstractContextManager[None]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(lease.TTL, "2")
    monkeypatch.setattr(mirror, "EVERY_S", 0.05)
    monkeypatch.setattr(handover, "EVERY_S", 0.05)
    monkeypatch.setattr(mirror, "LONGEST_PAUSE_S", 0.2)


@pytest.fixture
def on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> On:
    """Return what lets a block find the folders of a machine; who has found one keeps it."""

    @contextmanager
    def machine(name: str) -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setenv("SISR_CACHE", str(tmp_path / name))
            yield

    return machine


@contextmanager
def owning(wire: Wire, on: On, machine: str = "head") -> Iterator[RunFolder]:
    """Own the run `a` on a machine, and have begun it."""
    with on(machine):
        folder = RunFolder(runs_folder(wire.address().written) / "a")
    with folder.lock(), owned(folder, print):
        (folder.path / "run.json").write_text('{"created": "then"}')
        yield folder


@contextmanager
def handing_over(folder: RunFolder) -> Iterator[Ticket]:
    mine = found_owned(folder.path)
    assert mine is not None
    with handed_over(mine, print) as ticket:
        yield ticket


@contextmanager
def working(ticket: Ticket, on: On, machine: str, first: bool = True) -> Iterator[RunFolder]:
    """Be one of the workers, on a machine."""
    with on(machine):
        entered = joined(ticket, first, lambda: None)
        folder = entered.__enter__()
    try:
        yield folder
    finally:
        entered.__exit__(None, None, None)


def wait_until(reached: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def save(folder: RunFolder, step: int, content: str = "") -> Path:
    path = folder.checkpoints / f"step_{step}" / "state.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content or f"state of {step}")
    return path


def read(folder: RunFolder, step: int) -> str:
    return (folder.checkpoints / f"step_{step}" / "state.pt").read_text()


def test_the_owner_sees_what_a_worker_elsewhere_writes_and_has_all_of_it_in_the_end(wire: Wire, on: On) -> None:
    with owning(wire, on) as folder:
        save(folder, 1)
        with handing_over(folder) as ticket, working(ticket, on, "node") as elsewhere:
            assert elsewhere.path != folder.path
            assert read(elsewhere, 1) == "state of 1"
            save(elsewhere, 2)
            elsewhere.write_status(state="running", step=2)
            wait_until(lambda: folder.status().get("step") == 2)
            assert not (folder.checkpoints / "step_2").exists(), "of which nobody here needs any meanwhile"
        assert read(folder, 2) == "state of 2"
        folder.write_status(state="finished", step=2)
    found, lacking = snapshot.fetch_newest(Bucket(wire.address("runs/a")), folder.path.parent / "home")
    home = RunFolder(folder.path.parent / "home")
    assert found is not None
    assert not lacking
    assert (home.status()["state"], read(home, 1), read(home, 2)) == ("finished", "state of 1", "state of 2")


def test_a_journal_arrives_no_sooner_than_the_picture_that_it_names(wire: Wire, on: On) -> None:
    with owning(wire, on) as folder, handing_over(folder) as ticket, working(ticket, on, "node") as elsewhere:
        (elsewhere.path / "samples").mkdir()
        for number in range(30):
            (elsewhere.path / "samples" / f"{number}.png").write_bytes(bytes(2 << 20) if number % 3 == 0 else b"small")
            with (elsewhere.path / "outbox.jsonl").open("a") as journal:
                journal.write(f"{number}\n")
            seen = folder.path / "outbox.jsonl"
            for line in seen.read_text().split() if seen.exists() else ():
                assert (folder.path / "samples" / f"{line}.png").is_file()
        wait_until(lambda: seen.exists() and "29" in seen.read_text().split())


def test_that_the_owner_wants_to_stop_is_heard_by_the_worker(wire: Wire, on: On) -> None:
    with owning(wire, on) as folder:
        for _ in range(2):  # an earlier wish is forgotten
            folder.clear_stop()
            with handing_over(folder) as ticket, working(ticket, on, "node") as elsewhere:
                time.sleep(0.3)
                assert not elsewhere.stop_requested()
                folder.request_stop()
                wait_until(elsewhere.stop_requested)


def test_a_worker_that_was_cut_off_can_not_touch_what_the_one_after_it_writes(wires: list[Wire], on: On) -> None:
    cut, other = wires
    with owning(other, on) as folder:
        with handing_over(folder) as ticket:
            through_cut = Ticket(cut.address("runs/a").written, ticket.nonce, "")
            lost, found = working(through_cut, on, "lost"), list[BaseException]()
            behind = lost.__enter__()
            save(behind, 3, "of the lost one")
            wait_until(lambda: holds(other, "checkpoints/step_3/state.pt"))
            cut.fault = "cut"
            save(behind, 4, "of the lost one, which nobody sees")
            with working(ticket, on, "next") as ahead:
                assert read(ahead, 3) == "of the lost one"
                assert not (ahead.checkpoints / "step_4").exists()
                save(ahead, 4, "of the next one")
                cut.fault = None  # it returns
                ended = threading.Thread(target=lambda: found.extend(raised_by(lost)))
                ended.start()
                ended.join()
                save(ahead, 5)
        assert isinstance(found[0], RunLockedError)
        assert "was taken over by" in str(found[0])
        assert [read(folder, step) for step in (3, 4, 5)] == ["of the lost one", "of the next one", "state of 5"]


def raised_by(entered: AbstractContextManager[object]) -> list[BaseException]:
    try:
        entered.__exit__(None, None, None)
    except BaseException as error:
        return [error]
    return []


def holds(wire: Wire, path: str) -> bool:
    found = snapshot.newest(Bucket(wire.address("runs/a")))
    return found is not None and path in found.files


def test_workers_on_other_machines_have_what_the_first_begins_with(wire: Wire, on: On) -> None:
    with owning(wire, on) as folder:
        save(folder, 1)
        with handing_over(folder) as ticket, working(ticket, on, "node") as first:
            save(first, 2)  # not in storage yet, perhaps
            with working(ticket, on, "node", first=False) as beside, working(ticket, on, "far", first=False) as far:
                assert beside.path == first.path
                assert read(beside, 2) == "state of 2"
                assert far.path != first.path
                assert read(far, 1) == "state of 1"


def test_when_the_owner_is_killed_the_next_one_has_what_its_worker_wrote(wire: Wire, on: On) -> None:
    owner = owning(wire, on)
    folder = owner.__enter__()
    mine = found_owned(folder.path)
    assert mine is not None
    handing = handed_over(mine, print)
    ticket = handing.__enter__()
    with working(ticket, on, "node") as elsewhere:
        save(elsewhere, 7)
    mine.lease.end()  # and no more of it: it was killed
    with owning(wire, on, "another head") as folder_after:
        assert read(folder_after, 7) == "state of 7"
        with pytest.raises(RunLockedError), working(ticket, on, "node"):
            pass


def test_a_changed_record_takes_effect_where_the_workers_are(wire: Wire, on: On) -> None:
    with owning(wire, on) as folder:
        folder.next_run.write_text('{"created": "now"}')
        with handing_over(folder) as ticket, working(ticket, on, "node") as elsewhere:
            assert elsewhere.next_run.read_text() == '{"created": "now"}'
            elsewhere.next_run.rename(elsewhere.run)
        assert folder.run.read_text() == '{"created": "now"}'
        assert not folder.next_run.exists()
