"""An error on one of Ray's workers ends the whole run, with the user's message, while the others wait for that one."""

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import outside_recipe
from sisr.cluster.train_extensions import EndOnError
from sisr.errors import ConfigError, RunLockedError

FAILS = """if step == 7 and __import__("torch").distributed.get_rank() == 1:
            open({path!r}, "a").write(f"{{__import__('time').time()}}\\n")
            {how}
        loss = pixel.l1"""
HOW = {
    "raises": "raise ArithmeticError('the seventh step')",
    "is killed": "__import__('os').kill(__import__('os').getpid(), 9)",
}


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "workers", "restarts", "code", "message"),
    [
        ("raises", 2, 3, 2, "ArithmeticError: the seventh step"),
        ("is killed", 3, 0, 75, "a worker was lost, and --max-failures 0 allows no further restart"),
    ],
)
def test_a_worker_that_fails_ends_the_run_at_once(
    tmp_path: Path, how: str, workers: int, restarts: int, code: int, message: str
) -> None:
    failed_at = tmp_path / "failed_at"
    failing = FAILS.format(path=str(failed_at), how=HOW[how])
    recipe = outside_recipe.write(tmp_path, "espcn.py", ("loss = pixel.l1", failing))
    command = [sys.executable, "-m", "sisr.terminal.cli", "train", str(recipe), "--address", "local"]
    command += ["--workers", str(workers), "--cpus-per-worker", "0.5", "--max-failures", str(restarts), "--name", "r"]
    command += ["--steps", "20", "--set", "batch_size=6", "--set", "hr_crop=32", "--set", "num_features=4"]
    command += ["--option", "evaluate_every=5", "--option", "validation_side=48", "--precision", "fp32"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    ended_at = time.time()
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert json.loads(Path("runs/r/status.json").read_text())["state"] == ("failed" if how == "raises" else "stopped")
    (moment,) = failed_at.read_text().split()  # one: nothing was started again
    assert ended_at - float(moment) < 60, "15 s on a quiet machine; a worker that waited in vain would take 300"


def test_a_lock_that_the_attempt_before_still_holds_ends_no_run() -> None:
    EndOnError().after_worker_group_poll_status(SimpleNamespace(errors={0: RunLockedError("held"), 1: OSError()}))
    with pytest.raises(ConfigError, match="wrong"):
        EndOnError().after_worker_group_poll_status(SimpleNamespace(errors={1: ConfigError("wrong")}))
