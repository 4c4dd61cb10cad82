import os
import subprocess
import sys
from pathlib import Path

import pytest

from sisr.disk import atomic
from sisr.errors import DiskError


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_appears_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.json"
    atomic.write_json(target, {"a": 1})
    assert target.read_text() == '{\n "a": 1\n}\n'
    assert names(target.parent) == {"a.json"}


def test_an_error_while_writing_leaves_the_older_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(UnicodeEncodeError), atomic.file(target) as unfinished:
        unfinished.write_text("new \udc80")
    assert target.read_text() == "old"
    assert names(tmp_path) == {"a.txt"}


@pytest.mark.parametrize("name", ["a" * 255, "a" * 251 + ".png", "ä" * 125 + ".jpg", "a." + "b" * 253])
def test_every_name_that_a_file_system_takes_can_be_written(tmp_path: Path, name: str) -> None:
    atomic.write_text(tmp_path / name, "x")
    assert names(tmp_path) == {name}


def test_the_temporary_name_has_the_same_suffix_which_often_names_the_format(tmp_path: Path) -> None:
    with atomic.file(tmp_path / "a.png") as unfinished:
        unfinished.touch()
        assert unfinished.suffix == ".png"


def test_a_folder_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for content in ("one", "two"):
        with atomic.folder(target) as unfinished:
            (unfinished / content).write_text(content)
    assert names(tmp_path) == {"model"}
    assert names(target) == {"two"}


def test_an_error_while_a_folder_is_filled_leaves_the_older_one(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    with pytest.raises(DiskError, match=f"{target} can't be written"), atomic.folder(target) as unfinished:
        (unfinished / "sub" / "file").write_text("x")
    assert names(tmp_path) == {"model"}


def test_a_full_disk_is_named_with_the_path_and_what_is_free(tmp_path: Path) -> None:
    program = (
        "import resource, sys, pathlib; from sisr.disk import atomic\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "atomic.write_text(pathlib.Path(sys.argv[1]), 'x' * 5000)\n"
    )
    target = tmp_path / "big.txt"
    done = subprocess.run([sys.executable, "-c", program, str(target)], capture_output=True, text=True, timeout=300)
    assert f"{target} can't be written: File too large (" in done.stderr
    assert "MiB free)" in done.stderr
    assert names(tmp_path) == set()


def test_file_and_folder_are_brought_to_the_disk_before_and_after_the_name_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bool]] = []
    real, target = os.fsync, tmp_path / "a"

    def fsync(descriptor: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{descriptor}"), target.exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    atomic.write_text(target, "x")
    (file, named), (folder, then_named) = synced
    assert Path(file).parent == Path(folder) == tmp_path
    assert (named, then_named) == (False, True)


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    program = (
        "import os, sys, pathlib; from sisr.disk import atomic\n"
        "with atomic.file(pathlib.Path(sys.argv[1])) as unfinished:\n"
        "    unfinished.write_text('half')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "a")], check=False, timeout=300)
    (tmp_path / "other").touch()
    assert len(names(tmp_path)) == 2
    atomic.remove_unfinished(tmp_path)
    assert names(tmp_path) == {"other"}
