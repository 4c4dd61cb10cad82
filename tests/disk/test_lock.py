import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sisr.disk import lock
from sisr.errors import DiskError, RunLockedError

HOLD = (
    "import sys, pathlib; from sisr.disk import lock\n"
    "with lock.held(pathlib.Path(sys.argv[1])):\n"
    "    print('held', flush=True); sys.stdin.read()\n"
)


@pytest.fixture
def holder(tmp_path: Path) -> "subprocess.Popen[str]":
    """A process that holds the lock `tmp_path / "lock"` until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


def test_a_held_lock_names_its_holder_and_a_killed_one_lets_go(tmp_path: Path, holder: "subprocess.Popen[str]") -> None:
    path = tmp_path / "lock"
    assert lock.is_held(path)
    with pytest.raises(RunLockedError, match=f"process {holder.pid} on"), lock.held(path, wait_s=0.1):
        pass
    end(holder)
    assert not lock.is_held(path)
    with lock.held(path, wait_s=0):
        assert f"process {os.getpid()} on" in lock.holder(path)


def test_who_waits_gets_the_lock_when_its_holder_ends(tmp_path: Path, holder: "subprocess.Popen[str]") -> None:
    asked = threading.Event()

    def give_up() -> bool:
        asked.set()
        return False

    def end_when_asked() -> None:
        asked.wait(60)
        end(holder)

    threading.Thread(target=end_when_asked).start()
    with lock.held(tmp_path / "lock", give_up=give_up):
        assert holder.poll() is not None


def test_who_waits_can_give_up(tmp_path: Path, holder: "subprocess.Popen[str]") -> None:
    with pytest.raises(RunLockedError), lock.held(tmp_path / "lock", give_up=lambda: True):
        pass
    end(holder)


def test_the_holder_learns_that_its_lock_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "run" / "lock"
    with lock.held(path) as is_ours:
        assert is_ours()
        path.parent.rename(tmp_path / "moved")
        assert not is_ours()
        with lock.held(path) as is_theirs:
            assert is_theirs()
            assert not is_ours()


def test_a_link_in_the_locks_place_is_refused_and_its_target_is_not_touched(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("content")
    (tmp_path / "lock").symlink_to(precious)
    with pytest.raises(DiskError, match="it is a link"), lock.held(tmp_path / "lock"):
        pass
    assert precious.read_text() == "content"


def test_two_that_ask_at_the_same_time_do_not_take_each_other_for_a_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    descriptor = os.open(path, os.O_RDONLY)
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_SH)  # as the other one does while it asks
    assert not lock.is_held(path)
    os.close(descriptor)
