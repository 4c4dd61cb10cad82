"""Several workers on one machine: however one of them ends, all end, soon, and for the right reason."""

import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import outside_recipe
from disturbed import command_of
from forks import forkserver
from sisr.disk.run_folder import RunFolder
from sisr.errors import ConfigError, OutOfMemoryError, SisrError, StoppedError
from sisr.training.local import Share, train_in_processes
from sisr.training.run import Options, Run
from sisr.training.session import NoLog

PHOTOS = Path(__file__).parent / "recorded_run" / "photos"
HANGS_S = 60.0  # workers that wait in vain for another do so for many minutes
LOSS = "        loss = pixel.l1("  # of the recipe; what a test does in its step stands before it
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let workers pack images once, and leave in a temporary directory of the test what they leave."""
    forkserver()  # it keeps a socket in the temporary directory
    monkeypatch.setenv("SISR_CACHE", str(session_cache))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", None)  # look again
    return tmp_path


def no_log(path: Path) -> NoLog:
    return NoLog()


def run(deed: str = "pass", rank: int = 1) -> Run:
    """A run of ten steps in whose step 3 one worker does something."""
    before = f"        import os, torch.distributed as dist\n        if step == 3 and dist.get_rank() == {rank}:\n"
    text = outside_recipe.text()
    assert LOSS in text
    text = text.replace(LOSS, f"{before}            {deed}\n{LOSS}")
    config = {"scale": 2, "batch_size": 4, "steps": 10, "hr_crop": 16, "num_features": 4}
    options = Options(precision="fp32", threads=1, evaluate_every=5, validation_side=24, perceptual="none")
    return Run(name="t", recipe="espcn", recipe_source=text, config=config, options=options, data=str(PHOTOS))


def failure(folder: Path, workers: int, deed: str, rank: int = 1) -> Exception:
    """Return what a run is ended by, after making sure that it and all its processes have ended soon after the deed."""
    mark = folder / "done"
    spoiled = run(f"open({str(mark)!r}, 'w').close(); {deed}", rank)
    with pytest.raises(Exception) as raised:  # noqa: PT011
        train_in_processes(spoiled, RunFolder(folder), Share(workers), no_log)
    assert time.time() - mark.stat().st_mtime < HANGS_S
    servers = children(os.getpid(), "forkserver")
    assert [worker for server in servers for worker in server.children()] == []
    assert left(folder.parent) == []
    return raised.value


def children(pid: int, command: str) -> list[psutil.Process]:
    """Return the processes that one has started and whose command line has a text in it."""
    return [one for one in psutil.Process(pid).children() if command in command_of(one)]


def left(folder: Path) -> list[str]:
    """Return what lies in the temporary directory; torch keeps an empty cache of its compiler there."""
    return [path.name for path in (folder / "temporary").iterdir() if not path.name.startswith("torchinductor")]


DEEDS: list[tuple[str, type[SisrError], str]] = [
    ("raise KeyError('my mistake')", ConfigError, r"espcn.*KeyError.*my mistake"),
    ("os._exit(0)", StoppedError, r"worker 1 exited with code 0"),
    ("os.kill(os.getpid(), 9)", OutOfMemoryError, r"worker 1 was killed, as the system does when memory runs out"),
]


@pytest.mark.parametrize(("deed", "error", "text"), DEEDS)
def test_when_one_of_two_workers_ends_both_end_and_the_reason_is_named(
    tmp_path: Path, deed: str, error: type[SisrError], text: str
) -> None:
    found = failure(tmp_path / "run", 2, deed)
    assert isinstance(found, error)
    assert re.search(text, str(found)), found


def test_when_the_first_of_three_workers_fails_all_end(tmp_path: Path) -> None:
    assert "my mistake" in str(failure(tmp_path / "run", 3, "raise KeyError('my mistake')", rank=0))


@pytest.mark.parametrize("number", [1, 3], ids=["while their server imports", "as soon as they are there"])
def test_workers_whose_driver_is_killed_before_they_are_ready_take_no_step(tmp_path: Path, number: int) -> None:
    folder = RunFolder(tmp_path / "run")
    given = (run(), folder, Share(2), no_log)
    driver = multiprocessing.get_context("spawn").Process(target=train_in_processes, args=given)
    driver.start()
    assert driver.pid is not None
    while len(workers := family(driver.pid, "forkserver")) < number:
        assert driver.is_alive()
        time.sleep(0.01)
    driver.kill()
    _, alive = psutil.wait_procs(workers, timeout=300)
    assert alive == []
    assert folder.status() == {}


def test_workers_whose_driver_is_killed_end_though_they_wait_for_each_other(tmp_path: Path) -> None:
    mark = tmp_path / "waits"
    deed = f"open({str(mark)!r}, 'w').close(); __import__('time').sleep(600)"
    given = (run(deed), RunFolder(tmp_path / "run"), Share(2), no_log)
    driver = multiprocessing.get_context("spawn").Process(target=train_in_processes, args=given)
    driver.start()
    assert driver.pid is not None
    while not mark.exists():
        assert driver.is_alive()
        time.sleep(0.01)
    workers = family(driver.pid, "forkserver")
    assert len(workers) == 3
    driver.kill()
    _, alive = psutil.wait_procs(workers, timeout=HANGS_S)
    assert alive == []


def test_where_the_temporary_directory_s_path_is_too_long_for_a_socket_workers_are_spawned(tmp_path: Path) -> None:
    (folder := tmp_path / ("long" * 30)).mkdir()
    code = "from sisr.training import local; print(local._context().get_start_method())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(folder)}, stdout=subprocess.PIPE, text=True
    )
    assert (done.returncode, done.stdout) == (0, "spawn\n")


def family(pid: int, command: str) -> list[psutil.Process]:
    """Return the children of a process whose command line has a text in it, and theirs."""
    found = children(pid, command)
    return found + [one for server in found for one in server.children()]


def test_workers_that_finish_leave_nothing_in_the_temporary_directory_and_listen_nowhere(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    listening: set[Any] = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            for child in psutil.Process().children(recursive=True):
                try:
                    found = child.net_connections("inet")
                except psutil.Error:
                    continue
                listening.update(c.laddr.ip for c in found if c.status == psutil.CONN_LISTEN)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        status = train_in_processes(run(), folder, Share(2), no_log)
    finally:
        ended.set()
        watcher.join()
    assert status["state"] == "finished"
    assert left(tmp_path) == []
    assert listening <= {"127.0.0.1", "::1"}
    assert os.environ.get("GLOO_SOCKET_IFNAME") is None
