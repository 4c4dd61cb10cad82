"""What a folder of runs holds, on real runs, sweeps and processes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from driven_sweep import SteppingHost
from sisr.disk.run_folder import RunFolder
from sisr.driver import inventory
from sisr.errors import ConfigError, RunLockedError
from sisr.terminal import cli

HOLDS = """
import sys, time
from pathlib import Path
from sisr.disk.run_folder import RunFolder
folder = RunFolder(Path(sys.argv[1]))
with folder.lock():
    print("held", flush=True)
    while not folder.stop_requested():
        time.sleep(0.02)
"""


def make(runs: Path, name: str, state: str, step: int = 30, **more: Any) -> RunFolder:
    """A run's folder as training leaves it."""
    folder = RunFolder(runs / name)
    folder.path.mkdir(parents=True)
    content = {"recipe": "srez", "data": "demo", "config": {"steps": 90}, "options": {}}
    folder.run.write_text(json.dumps({"run": content}))
    folder.write_status(state=state, step=step, steps=90, **more)
    return folder


@pytest.fixture
def holder(tmp_path: Path) -> Any:
    """A process that is at work on a run until it is asked to end."""
    folder = make(tmp_path, "busy", "running")
    process = subprocess.Popen([sys.executable, "-c", HOLDS, str(folder.path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield folder.path
    process.kill()
    process.communicate()


def verb(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[Any, str, str]:
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    return (end.value.code or 0, *capsys.readouterr())


def test_runs_and_sweeps_are_listed_the_last_written_first(tmp_path: Path) -> None:
    make(tmp_path, "old", "finished", validation={"val/psnr_y": 27.5, "val/score": 0.1})
    SteppingHost(tmp_path, scheduler="none", trials=2, steps=5).search()
    os.utime(tmp_path / "old" / "status.json", (1, 1))
    os.utime(tmp_path / "old" / "run.json", (1, 1))
    sweep, run = inventory.entries(tmp_path)
    assert (run.name, run.state, run.progress, run.psnr_y) == ("old", "finished", "30/90", 27.5)
    assert (sweep.name, sweep.kind, sweep.state, sweep.progress) == ("s", "sweep", "finished", "2 finished")
    assert sweep.psnr_y is not None


def test_a_run_that_was_copied_or_fetched_is_as_old_as_it_says_itself(tmp_path: Path) -> None:
    make(tmp_path, "fetched", "finished", written_at=time.time() - 3600)
    (found,) = inventory.entries(tmp_path)
    assert found.age_s == pytest.approx(3600, abs=60)


def test_what_a_killed_process_left_is_interrupted_and_what_a_living_one_holds_is_running(holder: Path) -> None:
    make(holder.parent, "killed", "running")
    states = {found.name: found.state for found in inventory.entries(holder.parent)}
    assert states == {"busy": "running", "killed": "interrupted"}


@pytest.mark.parametrize("content", ["", "[1]", '{"run": 3}'])
def test_a_damaged_record_is_listed_as_damaged(tmp_path: Path, content: str) -> None:
    make(tmp_path, "bad", "finished").run.write_text(content)
    assert [found.state for found in inventory.entries(tmp_path)] == ["damaged"]


def test_the_size_is_what_the_system_says(tmp_path: Path) -> None:
    folder = make(tmp_path, "big", "finished").path
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "state.pt").write_bytes(os.urandom(300_000))
    told = subprocess.run(["du", "-s", "--block-size=1", str(folder)], capture_output=True, text=True, check=True)
    folders = 2 * os.stat(folder).st_blocks * 512
    assert inventory.entry(folder).size == pytest.approx(int(told.stdout.split()[0]), abs=folders + 4096)


def test_a_stop_reaches_the_process_and_waits_for_its_end(holder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = verb(capsys, "stop", "busy", "--runs", str(holder.parent))
    assert code == 0
    assert out.startswith("busy interrupted, 30/90")
    with pytest.raises(ConfigError, match="busy is not running"):
        inventory.stop(holder, 1)


@pytest.mark.slow
def test_a_held_run_is_not_removed_and_another_one_is(holder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(holder.parent, "old", "finished")
    with pytest.raises(RunLockedError, match="held by process"):
        inventory.remove(holder)
    code, _, err = verb(capsys, "remove", "old", "--runs", str(holder.parent))
    assert code == 2, "nobody confirmed"
    assert "--yes removes without asking" in err
    code, _, err = verb(capsys, "remove", "old", "--yes", "--runs", str(holder.parent))
    assert (code, err.splitlines()[-1]) == (0, "removed old")
    assert [found.name for found in inventory.entries(holder.parent)] == ["busy"]
    assert holder.is_dir()


def test_a_wrong_name_is_answered_with_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, "demo", "finished")
    code, _, err = verb(capsys, "show", "dem", "--runs", str(tmp_path))
    assert code == 2
    assert "no run or sweep 'dem'" in err
    assert "did you mean 'demo'" in err


@pytest.mark.parametrize("status", [{"step": "x"}, {"step": 3, "steps": None, "validation": [1]}])
def test_a_status_that_makes_no_sense_stops_no_list(tmp_path: Path, status: dict[str, Any]) -> None:
    (make(tmp_path, "odd", "finished").path / "status.json").write_text(json.dumps({"state": "finished", **status}))
    assert [found.name for found in inventory.entries(tmp_path)] == ["odd"]


def test_show_names_the_settings_and_what_can_be_done_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (make(tmp_path, "demo", "finished").path / "model").mkdir()
    code, out, _ = verb(capsys, "show", "demo", "--runs", str(tmp_path))
    assert code == 0
    assert "steps=90" in out
    assert f"sisr serve demo --runs {tmp_path}" in out
    assert json.loads(verb(capsys, "show", "demo", "--runs", str(tmp_path), "--json")[1])["status"]["step"] == 30


def test_listing_runs_loads_nothing_heavy(tmp_path: Path) -> None:
    make(tmp_path, "demo", "finished")
    script = "import sys; from sisr.driver import inventory; inventory.entries(__import__('pathlib').Path(sys.argv[1]))"
    heavy = "; assert not {'torch', 'ray', 'mlflow', 'matplotlib'} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", script + heavy, str(tmp_path)], check=True)
