"""What a run writes is in storage soon, as it is, whatever happens on the way; and comes back so."""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from object_storage import Wire
from sisr.disk.run_folder import RunFolder
from sisr.driver import inventory
from sisr.errors import RunLockedError, StorageError
from sisr.storage import claim, lease, mirror, parts, snapshot
from sisr.storage.address import of_folder, runs_folder
from sisr.storage.bucket import Bucket
from sisr.storage.mirror import Mirror
from sisr.storage.ownership import owned, refresh

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(lease.TTL, "2")
    monkeypatch.setattr(mirror, "EVERY_S", 0.05)
    monkeypatch.setattr(mirror, "LONGEST_PAUSE_S", 0.2)
    monkeypatch.setenv("SISR_CACHE", str(tmp_path / "here"))


@contextmanager
def working_on(wire: Wire, said: list[str] | None = None) -> Iterator[tuple[RunFolder, Mirror]]:
    """Own the run `a`, from this machine's cache."""
    folder = RunFolder(runs_folder(wire.address().written) / "a")
    with folder.lock(), owned(folder, (said if said is not None else []).append) as found:
        assert found is not None
        yield folder, found


def write(folder: Path, path: str, content: bytes) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(content)


def in_storage(wire: Wire) -> dict[str, str]:
    """What a reader finds: the SHA-256 of each file."""
    found = snapshot.newest(Bucket(wire.address("runs/a")))
    return {path: entry.sha256 for path, entry in found.files.items()} if found else {}


def wait_until(reached: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_there(wire: Wire, path: str, content: bytes) -> bool:
    return in_storage(wire).get(path) == sha(content)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_folder_comes_back_as_it_went_with_a_file_of_several_objects(
    wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART", 1000)
    content = {"run.json": b"{}", "checkpoints/step_1/state.pt": bytes(range(256)) * 10, "samples/val/1.png": b""}
    with working_on(wire) as (folder, _):
        for path, text in content.items():
            write(folder.path, path, text)
        write(folder.path, "mlflow.json", b"of this machine")
    snapshot.fetch_newest(Bucket(wire.address("runs/a")), tmp_path / "home")
    found = {p.relative_to(tmp_path / "home").as_posix(): p.read_bytes() for p in (tmp_path / "home").rglob("*.*")}
    assert {path: text for path, text in found.items() if not path.startswith("checkpoints/step_1/.")} == content


def test_a_journal_is_appended_to_and_stays_in_few_objects(wire: Wire) -> None:
    line = b"x" * 99 + b"\n"
    with working_on(wire) as (folder, _):
        for count in range(1, 9):
            with (folder.path / "outbox.jsonl").open("ab") as file:
                file.write(line)
            wait_until(partial(is_there, wire, "outbox.jsonl", line * count))
        found = snapshot.newest(Bucket(wire.address("runs/a")))
        assert found is not None
        assert len(found.files["outbox.jsonl"].parts) <= 4  # the binary digits of 8
    assert in_storage(wire)["outbox.jsonl"] == sha(line * 8)


@pytest.mark.parametrize("fault", ["broken", "busy", "slow", "torn", "cut", "lost", "expired", "full"])
def test_training_goes_on_while_storage_fails_and_all_is_there_when_it_has_recovered(wire: Wire, fault: str) -> None:
    said: list[str] = []
    with working_on(wire, said) as (folder, _):
        write(folder.path, "run.json", b"{}")
        wait_until(lambda: "run.json" in in_storage(wire))
        wire.fault = fault
        write(folder.path, "checkpoints/step_2/state.pt", b"2" * 5000)
        reached = wire.broken + 4
        wait_until(lambda: wire.broken >= reached)
        warned = folder.warnings()
        wire.fault = None
    assert in_storage(wire)["checkpoints/step_2/state.pt"] == sha(b"2" * 5000)
    if fault not in ("slow", "torn", "lost"):  # of which a request may notice nothing
        assert "Training goes on; what it writes is uploaded later" in warned[0]


def test_the_end_waits_for_what_counts_and_says_what_it_lacks(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "GIVE_UP_S", 0.5)
    said: list[str] = []
    with (  # noqa: PT012
        pytest.raises(StorageError, match=r"access denied \(AccessDenied\).* holds 2\.0 MB \(model/generator\.safe"),
        working_on(wire, said) as (folder, _),
    ):
        wait_until(lambda: claim.read(Bucket(wire.address("runs/a"))))
        wire.fault, wire.only = "forbidden", "model"
        write(folder.path, "model/generator.safetensors", b"3" * 2_000_000)
    wire.fault = None
    with working_on(wire, said):
        pass
    assert in_storage(wire)["model/generator.safetensors"] == sha(b"3" * 2_000_000)


def test_a_node_that_was_cut_off_and_returns_changes_nothing_of_its_successor_s(
    wires: list[Wire], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut, other = wires
    with pytest.raises(RunLockedError, match="was taken over by"), working_on(cut) as (folder, _):  # noqa: PT012
        write(folder.path, "checkpoints/step_1/state.pt", b"1")
        write(folder.path, "best.json", b"1")
        wait_until(lambda: len(in_storage(other)) == 2)
        cut.fault = "cut"
        write(folder.path, "checkpoints/step_2/state.pt", b"cut off")
        monkeypatch.setenv("SISR_CACHE", str(tmp_path / "there"))
        with working_on(other) as (successor, _):
            assert (successor.path / "checkpoints/step_1/state.pt").read_bytes() == b"1"
            assert not (successor.path / "checkpoints/step_2").exists()
            write(successor.path, "checkpoints/step_2/state.pt", b"successor")
            write(successor.path, "best.json", b"2")
            wait_until(lambda: in_storage(other).get("best.json") == sha(b"2"))
            cut.fault = None
            write(folder.path, "best.json", b"cut off, too")
            wait_until(folder.stop_requested)
            objects = [*Bucket(other.address("runs/a")).names()]
            found = snapshot.newest(Bucket(other.address("runs/a")))
            assert found is not None
            assert found.objects() <= set(objects)
    assert in_storage(other)["checkpoints/step_2/state.pt"] == sha(b"successor")
    monkeypatch.setenv("SISR_CACHE", str(tmp_path / "here"))
    with working_on(cut) as (folder, _):  # its folder is the successor's now
        assert (folder.path / "checkpoints/step_2/state.pt").read_bytes() == b"successor"


def test_a_checkpoint_that_lacks_an_object_is_passed_over_and_a_record_is_an_error(wire: Wire, tmp_path: Path) -> None:
    bucket = Bucket(wire.address("runs/a"))
    with working_on(wire) as (folder, _):
        write(folder.path, "run.json", b"{}")
        write(folder.path, "checkpoints/step_1/state.pt", b"1")
        write(folder.path, "checkpoints/step_2/state.pt", b"2")
    (name,) = [name for name in bucket.names() if "step_2" in name]
    bucket.put(name, b"flipped")
    _, lacking = snapshot.fetch_newest(bucket, tmp_path / "home")
    assert lacking == ["checkpoints/step_2/state.pt is damaged: it arrived with another SHA-256"]
    assert [path.parent.name for path in (tmp_path / "home").rglob("state.pt")] == ["step_1"]
    bucket.delete([name for name in bucket.names() if "run.json" in name])
    with pytest.raises(StorageError, match=r"s3://lab/runs/a: run\.json is lacking: an object of it is gone"):
        snapshot.fetch_newest(bucket, tmp_path / "again")


def test_a_killed_owner_s_folder_is_newer_than_storage_and_is_not_replaced(wire: Wire) -> None:
    with working_on(wire) as (folder, found):
        write(folder.path, "best.json", b"1")
        wait_until(lambda: in_storage(wire).get("best.json"))
        found._ending.set()  # as if killed: what follows is not uploaded
        found._thread.join()
        write(folder.path, "best.json", b"2")
    assert refresh(folder.path).joinpath("best.json").read_bytes() == b"2"
    with working_on(wire) as (folder, _):
        assert (folder.path / "best.json").read_bytes() == b"2"
    assert in_storage(wire)["best.json"] == sha(b"2")
    assert of_folder(folder.path.parent) == wire.address()


def test_a_removed_run_leaves_nothing_in_storage(wire: Wire) -> None:
    with working_on(wire) as (folder, _):
        write(folder.path, "run.json", b"{}")
    inventory.remove(folder.path)
    assert [*Bucket(wire.address("")).names()] == []
    assert not folder.path.exists()
