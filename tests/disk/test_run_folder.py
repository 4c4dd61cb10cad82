import subprocess
import sys
from pathlib import Path

import pytest

from sisr.disk.run_folder import RunFolder
from sisr.errors import DiskError, RunLockedError

HOLD = (
    "import sys, pathlib; from sisr.disk.run_folder import RunFolder\n"
    "with RunFolder(pathlib.Path(sys.argv[1])).lock():\n"
    "    print('held', flush=True); sys.stdin.read()\n"
)


@pytest.mark.slow
def test_one_process_at_a_time_holds_a_run_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunLockedError, match=f"process {holder.pid}"), RunFolder(tmp_path).lock():
            pass
        holder.kill()
    with RunFolder(tmp_path).lock():
        pass


@pytest.mark.parametrize("what", ["moved", "removed", "replaced", "unlocked"])
def test_a_run_whose_folder_is_no_longer_its_own_is_told_and_writes_nothing(tmp_path: Path, what: str) -> None:
    path = tmp_path / "base"
    folder = RunFolder(path)
    with folder.lock():
        folder.confirm()
        if what == "unlocked":
            (path / ".lock").unlink()
        else:
            path.rename(tmp_path / "elsewhere")
        if what in ("replaced", "unlocked"):
            with RunFolder(path).lock():
                pass
        with pytest.raises(DiskError, match="moved, removed or replaced"):
            folder.confirm()
        with pytest.raises(DiskError, match="moved, removed or replaced"):
            folder.write_status(state="running")
        folder.warn("nobody hears this")
        assert path.exists() == (what in ("replaced", "unlocked"))
        assert not path.exists() or {file.name for file in path.iterdir()} == {".lock"}


def test_a_stop_request_is_seen_until_it_is_cleared(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.request_stop()
    assert folder.stop_requested()
    folder.clear_stop()
    assert not folder.stop_requested()


@pytest.mark.parametrize("content", ["", "[1]", "null", "1", '"text"', "{", "\xff"])
def test_a_status_that_is_none_reads_as_no_status(tmp_path: Path, content: str) -> None:
    (tmp_path / "status.json").write_bytes(content.encode("latin-1"))
    (tmp_path / "files.json").write_bytes(content.encode("latin-1"))
    folder = RunFolder(tmp_path)
    assert (folder.status(), folder.file_hashes()) == ({}, {})


def test_a_warning_that_finds_no_room_is_written_with_the_next_one(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "base")
    folder.warn("lost?")  # there is no folder yet
    (tmp_path / "base").mkdir()
    folder.warn("found")
    assert folder.warnings() == ["lost?", "found"]
