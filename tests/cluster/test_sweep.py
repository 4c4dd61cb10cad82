"""The verb `tune` as a user meets it: real processes, real signals, real Ray."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from sisr.config.settings import read_yaml
from sisr.sweep import state
from sisr.tracking.outbox import last_status

TINY = {"batch_size": 2, "hr_crop": 16, "num_features": 8, "num_hr_features": 4, "num_blocks": 1}


@pytest.fixture
def space(tmp_path: Path) -> Path:
    path = tmp_path / "space.yaml"
    content = {
        "objective": "val/psnr_y",
        "trials": 4,
        "steps": 18,
        "search": "random",
        "scheduler": "asha",
        "fixed": TINY,
        "space": {"learning_rate": {"loguniform": [1e-5, 1e-2]}},
    }
    path.write_text(yaml.safe_dump(content))
    return path


def command(space: Path, *extra: str) -> list[str]:
    options = [word for option in ("threads=1", "validation_side=48", "log_every=5") for word in ("--option", option)]
    fixed = ["--search-space", str(space), "--name", "test", *options]
    return [sys.executable, "-m", "sisr.terminal.cli", "tune", "pixelshuffle", *fixed, *extra]


@pytest.fixture
def start() -> Iterator[Any]:
    """Start `sisr tune`; what is still alive at the end of the test is ended."""
    started: list[subprocess.Popen[str]] = []

    def launch(space: Path, *extra: str) -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        process = subprocess.Popen(command(space, *extra), stdout=pipe, stderr=pipe, text=True, start_new_session=True)
        started.append(process)
        return process

    yield launch
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def finish(process: "subprocess.Popen[str]", timeout_s: float = 400) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=timeout_s)
    return process.returncode, out, err


def ledger() -> list[dict[str, Any]]:
    return state.records(Path("runs/test"))


def wait_for(rows: int, process: "subprocess.Popen[str]", op: str = "end", timeout_s: float = 180) -> None:
    """Return once the ledger has that many rows of a kind; the sweep must still be running then."""
    deadline = time.monotonic() + timeout_s
    while sum(row["op"] == op for row in ledger()) < rows:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, ledger()
        time.sleep(0.05)
    assert process.poll() is None, "it ended before it could be disturbed"


def descendants_are_gone(process: "subprocess.Popen[str]", timeout_s: float = 30) -> bool:
    """Return whether no process of a command is left, by its session or by its working folder (as Ray's have it)."""
    deadline, here = time.monotonic() + timeout_s, os.getcwd()
    left = ["?"]
    while left and time.monotonic() < deadline:
        left = [p.info["name"] for p in psutil.process_iter(["name", "cwd", "pid"]) if _belongs(p, here, process.pid)]
        time.sleep(0.2)
    return not left


def _belongs(process: psutil.Process, folder: str, session: int) -> bool:
    try:
        inside = str(process.info["cwd"] or "").startswith(folder) and process.pid != os.getpid()
        return inside or os.getsid(process.pid) == session
    except (psutil.Error, OSError):
        return False


def wait_until_free(capacity: dict[str, float], available: Any, timeout_s: float = 30) -> dict[str, float]:
    """Return what a Ray has free, once that is all of its CPUs, or after a while."""
    deadline = time.monotonic() + timeout_s
    while available().get("CPU") != capacity["CPU"] and time.monotonic() < deadline:
        time.sleep(0.2)
    return dict(available())


@pytest.mark.ray
@pytest.mark.mlflow
@pytest.mark.slow
def test_a_sweep_ends_with_a_leaderboard_settings_for_train_and_no_process(space: Path, start: Any) -> None:
    process = start(space, "--json")
    code, out, err = finish(process)
    assert code == 0, err
    result = json.loads(out)
    assert result["counts"] == {"finished": 1, "pruned": 3}
    assert [row["step"] for row in result["trials"]] == [18, 6, 2, 2]
    best = result["trials"][0]
    settings = dict(read_yaml(Path("runs/test/best.yaml")))
    assert settings == TINY | best["params"]
    assert (Path("runs/test/results/index.html")).is_file()
    assert descendants_are_gone(process)


@pytest.mark.ray
@pytest.mark.slow
def test_killed_three_times_a_sweep_ends_with_every_trial_once(space: Path, start: Any) -> None:
    chance = random.Random(1)
    for kill in range(3):
        process = start(space, "--steps", "180", "--trials", "6")
        wait_for(1 + 2 * kill, process, "start")
        time.sleep(chance.uniform(0, 2))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    code, _, err = finish(start(space, "--steps", "180", "--trials", "6"))
    assert code == 0, err
    sweep = state.read(Path("runs/test"))
    assert [t.number for t in sweep.trials] == list(range(6))
    assert Counter(t.state for t in sweep.trials)["finished"] >= 1
    for trial in sweep.trials:
        steps = [step for step, _ in trial.curve]
        assert steps == sorted(set(steps)), "an evaluation counted twice"
    ends = [(row["trial"], row["step"]) for row in ledger() if row["op"] == "end"]
    assert len(ends) == len(set(ends))


@pytest.mark.ray
@pytest.mark.slow
def test_sigint_saves_every_trial_and_exits_75_and_the_same_command_goes_on(space: Path, start: Any) -> None:
    long = ("--steps", "3600", "--trials", "2")
    process = start(space, *long)
    wait_for(1, process, "start")
    while not any(Path("runs/test/trials").glob("*/checkpoints/step_*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 75, err
    assert "the same command goes on" in err
    assert descendants_are_gone(process)
    stood = {t.number: t.step for t in state.read(Path("runs/test")).trials}
    assert any(stood.values())
    process = start(space, *long)
    wait_for(2, process, "resume")
    wait_for(sum(row["op"] == "end" for row in ledger()) + 1, process)
    ended = [row for row in ledger() if row["op"] == "end"][-1]
    assert ended["step"] > stood[ended["trial"]] > 0
    evaluations = Path(f"runs/test/trials/{ended['trial']:04d}/evaluations.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in evaluations]
    assert steps == sorted(set(steps)), "it began anew"
    assert_a_second_signal_loses_no_trial(process)


def assert_a_second_signal_loses_no_trial(process: "subprocess.Popen[str]") -> None:
    """Stop a sweep at once, whatever its trials are doing: what Tune still says of them must not count."""
    process.send_signal(signal.SIGINT)
    while not Path("runs/test/.stop").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code in (75, 130), err  # the first one may have been enough
    assert {trial.state for trial in state.read(Path("runs/test")).trials} <= {"paused", "waiting"}
    assert last_status(Path("runs/test")) == "KILLED"
