"""Ray clusters of several nodes on this machine, and training on them; run as a program, the driver of one run.

Nodes come and go by a test's hand while the driver, another process, trains. Steps on a cluster are slowed down, so
that the recovery from a loss, which takes its time on a busy machine, does not take thousands of them.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from sisr.tracking.journal import rows
from sisr.tracking.outbox import FILE
from sisr.training.folder import RunFolder

RECIPE = '''
"""A light network that takes its time."""

import os
import time

from sisr.recipes import pixelshuffle
from sisr.recipes.pixelshuffle import Config, generator, tiny

__all__ = ["Config", "Recipe", "generator", "tiny"]


class Recipe(pixelshuffle.Recipe):
    """The same network."""

    def train_step(self, lr, hr, draws, step, update):
        """Take a step."""
        time.sleep(float(os.environ.get("STEP_S", "0")))
        return super().train_step(lr, hr, draws, step, update)
'''
SETTINGS = {
    "steps": 100_000,
    "schedule": "constant",
    "batch_size": 3,  # which two workers can't share equally
    "hr_crop": 16,
    "num_features": 4,
    "num_hr_features": 4,
    "num_blocks": 1,
}
EVALUATE_EVERY = 100
SMALL = {"object_store_memory": 80 << 20, "include_dashboard": False}
# A lost node is noticed within seconds, not within half a minute.
QUICK = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a driver is to train, and where."""

    runs: str
    until: int = 100_000  # step to stop at
    address: str | None = None  # of a Ray; None: in the driver's own process
    workers: str = "1"
    gpus_per_worker: float | None = None


@contextmanager
def cluster() -> Iterator[Any]:
    """Start a head that trains nothing; nodes are added by the test."""
    from ray.cluster_utils import Cluster

    # Ray notes the newest cluster below this folder, for whoever connects without an address: not for other tests.
    folder = tempfile.mkdtemp(prefix="r", dir="/tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("STEP_S", "0.1")
        started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **SMALL, "_system_config": QUICK})
        try:
            yield started
        finally:
            started.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


class Driver:
    """A process that trains."""

    def __init__(self, task: Task) -> None:
        self.folder = RunFolder(Path(task.runs) / "test")
        self.log = Path(task.runs + ".log")
        with open(self.log, "w") as log:
            command = [sys.executable, __file__, json.dumps(asdict(task))]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def wait_for(self, *, workers: int, steps: int, timeout_s: float = 300) -> int:
        """Return the step at which so many workers have taken some steps together."""
        deadline, first = time.monotonic() + timeout_s, None
        while True:
            status = self.folder.status()
            if status.get("workers") == workers:
                first = status["step"] if first is None else min(first, status["step"])
                if status["step"] >= first + steps:
                    return int(status["step"])
            assert self.process.poll() is None, f"ended too early: {self.log.read_text()}"
            assert time.monotonic() < deadline, f"{status} {self.log.read_text()}"
            time.sleep(0.05)

    def stop(self) -> int:
        """Let the run save and stop, and return the steps done."""
        self.folder.request_stop()
        return self.wait()

    def wait(self, timeout_s: float = 300) -> int:
        """Return the steps done at the run's end."""
        assert self.process.wait(timeout_s) == 0, self.log.read_text()
        return int(self.folder.status()["step"])

    def __enter__(self) -> "Driver":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, 9)
            self.process.wait()


def curve(folder: RunFolder) -> dict[int, list[float]]:
    """Return every loss that was recorded for each step; a step that was taken twice has two."""
    found: dict[int, list[float]] = {}
    for row in (row for row, _ in rows(folder.path / FILE) if row):
        if row["op"] == "metrics" and "generator/total" in row["values"]:
            found.setdefault(int(row["step"]), []).append(row["values"]["generator/total"])
    return found


def digest(folder: RunFolder, step: int) -> str:
    """Return the digest of everything that a checkpoint holds."""
    return str(json.loads((folder.checkpoints / f"step_{step:09d}" / "manifest.json").read_text())["digest"])


def main(task: Task) -> None:
    """Train."""
    from sisr.cluster import order, record, train
    from sisr.cluster.workers import parse
    from sisr.tracking.outbox import Outbox
    from sisr.training import loop
    from sisr.training.run import Options
    from sisr.training.session import PlainSession

    recipe = Path(task.runs + ".py")
    recipe.write_text(RECIPE)
    options = Options(precision="fp64", threads=1, validation_side=48, log_every=1, evaluate_every=EVALUATE_EVERY)
    run, folder, data = order.prepare(
        order.Order(
            recipe=str(recipe),
            values=SETTINGS,
            options=options,
            name="test",
            runs=Path(task.runs),
            workers=parse(task.workers),
        )
    )
    record.take_up(run, folder, data, False)
    if task.address is None:
        with Outbox(folder.path) as log:
            loop.train(run, folder, PlainSession(folder, torch.device("cpu"), until=task.until), log)
        return
    train.RESIZE_EVERY_S = 3.0
    scaling = train.Scaling(workers=parse(task.workers), gpus_per_worker=task.gpus_per_worker, address=task.address)
    train.fit(run, folder, scaling, lambda: None)
    train.shutdown()


if __name__ == "__main__":
    main(Task(**json.loads(sys.argv[1])))
