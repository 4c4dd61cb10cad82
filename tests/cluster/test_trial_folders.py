"""Trials on machines that do not reach their sweep's folder, in one Ray: what comes to them, and what comes back."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sisr.cluster import connection
from sisr.disk.run_folder import RunFolder
from sisr.driver.sweep.host import Task
from sisr.errors import RunLockedError
from sisr.training.run import Options, Run

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NAME = "trials/0003"
MIB = 1 << 20


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    yield connection.connect("local")
    connection.shutdown()


@pytest.fixture
def desk(ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The desk of a sweep's folder on this machine."""
    from sisr.cluster import trial_folders

    monkeypatch.setenv("SISR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(trial_folders, "EVERY_S", 0.1)
    (tmp_path / "sweep" / NAME).mkdir(parents=True)
    return trial_folders.open_desk(tmp_path / "sweep")


@pytest.fixture
def task(tmp_path: Path) -> Task:
    sweep = tmp_path / "sweep"
    run = Run(name="s-0003", recipe="pixelshuffle", config={}, options=Options(), data="demo")
    return Task(trial=3, run=run, folder=sweep / NAME, until=4, sweep=sweep)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def put(path: Path, what: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(what)


def test_the_drivers_own_machine_needs_no_desk(desk: Any) -> None:
    assert not desk.is_elsewhere()


def test_a_slice_finds_what_its_trial_has_and_the_driver_what_the_slice_made_of_it(desk: Any, task: Task) -> None:
    put(task.folder / "checkpoints/step_000000002/state.pt", b"a" * (17 * MIB) + b"z")  # more than goes at once
    put(task.folder / "checkpoints/step_000000002/manifest.json", b"{}")
    put(task.folder / "evaluations.jsonl", b"one\n")
    put(task.folder / "samples/0.png", b"what no slice reads")
    with desk.brought_here(task) as folder:
        here = folder.path
        assert here != task.folder
        assert (here.parent.name, here.name) == ("trials", "0003")
        assert content(here) == {n: c for n, c in content(task.folder).items() if not n.startswith("samples")}
        put(here / "checkpoints/step_000000004/state.pt", b"b" * (33 * MIB))
        put(here / "checkpoints/step_000000004/manifest.json", b"{1}")
        for name in ("state.pt", "manifest.json"):
            (here / "checkpoints/step_000000002" / name).unlink()
        with (here / "evaluations.jsonl").open("ab") as journal:
            journal.write(b"two\n")
        put(here / ".lock", b"of this machine alone")
    there = content(task.folder)
    assert sorted(there) == [
        "checkpoints/step_000000004/manifest.json",
        "checkpoints/step_000000004/state.pt",
        "evaluations.jsonl",
        "samples/0.png",
    ]
    assert there["checkpoints/step_000000004/state.pt"] == b"b" * (33 * MIB)
    assert there["evaluations.jsonl"] == b"one\ntwo\n"
    assert not (task.folder / "checkpoints/step_000000002").exists()
    assert not here.exists()  # nothing is left on the other machine


def test_whoever_watches_sees_a_slice_while_it_runs_and_can_stop_it(desk: Any, task: Task) -> None:
    with desk.brought_here(task) as folder:
        folder.write_status(step=1)
        wait_for(lambda: RunFolder(task.folder).status() == {"step": 1})
        assert not folder.stop_requested()
        RunFolder(task.sweep).request_stop()
        wait_for(folder.stop_requested)


def test_no_journal_gets_ahead_of_the_pictures_that_it_names(desk: Any, task: Task) -> None:
    with desk.brought_here(task) as folder:
        for number in range(60):
            put(folder.path / f"samples/{number}.png", b"picture")
            with (folder.path / "outbox.jsonl").open("a") as journal:
                journal.write(f"{number}\n")
            named = (
                (task.folder / "outbox.jsonl").read_text().split() if (task.folder / "outbox.jsonl").exists() else []
            )
            assert all((task.folder / f"samples/{name}.png").exists() for name in named)
            time.sleep(0.02)


def test_what_a_slice_leaves_counts_though_it_fails(desk: Any, task: Task) -> None:
    def fail(folder: RunFolder) -> None:
        folder.warn("divided")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), desk.brought_here(task) as folder:
        fail(folder)
    assert RunFolder(task.folder).warnings() == ["divided"]


def test_a_process_that_was_taken_for_lost_writes_nothing_more(desk: Any, task: Task) -> None:
    come, go = threading.Event(), threading.Event()
    raised: list[BaseException] = []

    def lost() -> None:
        try:
            with desk.brought_here(task) as folder:
                come.set()
                go.wait(60)
                put(folder.path / "status.json", b'{"step": 1}')
        except RunLockedError as error:
            raised.append(error)

    thread = threading.Thread(target=lost)
    thread.start()
    come.wait(60)
    with desk.brought_here(task) as folder:
        put(folder.path / "status.json", b'{"step": 2}')
    go.set()
    thread.join(60)
    (error,) = raised
    assert str(error) == "trials/0003 runs elsewhere by now: this process was taken for lost"
    assert RunFolder(task.folder).status() == {"step": 2}
    assert [path for path in task.folder.rglob("*") if path.name.startswith(".")] == []


def test_what_a_killed_process_left_on_a_machine_goes_with_the_next_slice_there(
    desk: Any, task: Task, tmp_path: Path
) -> None:
    import socket

    left = tmp_path / f"cache/trials/{socket.gethostname()}@4194305-abcd"  # beyond the largest number of a process
    put(left / "sweep/trials/0001/state.pt", b"1")
    with desk.brought_here(task):
        assert not left.exists()
