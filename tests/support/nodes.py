"""Ray clusters of several nodes on this machine, and training on them; run as a program, the driver of one run.

Nodes come and go by a test's hand while the driver, another process, trains. Steps on a cluster are slowed down, so
that the recovery from a loss, which takes its time on a busy machine, does not take thousands of them.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest
import torch

from sisr.cluster import capacity, own_ray
from sisr.disk.journal import rows
from sisr.disk.run_folder import RunFolder
from sisr.tracking.outbox import FILE

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
STEPS = 100_000  # more than any test waits for
# What Ray's launcher would fill into the configuration of an autoscaler.
LISTS = [
    *("cluster_synced_files", "rsync_exclude", "rsync_filter", "initialization_commands", "setup_commands"),
    *(f"{kind}_{what}_commands" for kind in ("head", "worker") for what in ("setup", "start_ray")),
]
UNUSED: dict[str, Any] = {"auth": {}, "docker": {}, "file_mounts": {}, **{name: [] for name in LISTS}}
SETTINGS = {
    "steps": STEPS,
    "schedule": "constant",
    "hr_crop": 16,
    "num_features": 4,
    "num_hr_features": 4,
    "num_blocks": 1,
}
STEP_S = "0.1"  # of one step on a cluster
PATIENCE_S = 900.0  # the limit of a whole test ends it earlier
FAKE_HEAD = "f" * 51 + "00000"
SMALL = {"object_store_memory": 80 << 20, "include_dashboard": False}
# A lost node is noticed within seconds, not within half a minute.
QUICK = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 10_000,  # of one that lives, and has to wait for a processor
    "health_check_failure_threshold": 3,
}


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a driver is to train, and where."""

    runs: str
    until: int = STEPS  # to stop at
    evaluate_every: int = STEPS
    batch_size: int = 3  # which two workers can't share equally
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
        patch.setenv("STEP_S", STEP_S)
        with own_ray.started_for_us():
            started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **SMALL, "_system_config": QUICK})
            try:
                yield started
            finally:
                started.shutdown()
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def autoscaled(home: Path) -> Iterator[str]:
    """Start a head that trains nothing and an autoscaler of up to two nodes with a CPU and a GPU; yield its address.

    Nodes are processes of this machine. The configuration lies in `home`, where Ray's launcher puts it.
    """
    folder, address = tempfile.mkdtemp(prefix="r", dir="/tmp"), f"127.0.0.1:{free_port()}"
    provider = {
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
        "head_node_id": FAKE_HEAD,
        "launch_multiple": True,
        "gcs_address": address,
    }
    resources = {"CPU": 1, "GPU": 1, "object_store_memory": 80 << 20}
    kinds = {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "gpu": {"resources": resources, "node_config": {}, "min_workers": 0, "max_workers": 2},
    }
    config = {"cluster_name": "test", "max_workers": 2, "idle_timeout_minutes": 0.1, "upscaling_speed": 1.0}
    config |= {"provider": provider, "available_node_types": kinds, "head_node_type": "ray.head.default", **UNUSED}
    file = home / capacity.LAUNCHER_FILE
    file.write_text(json.dumps(config))
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=0"]
    command += [f"--port={address.split(':')[1]}", "--node-ip-address=127.0.0.1", f"--temp-dir={folder}"]
    command += [f"--autoscaling-config={file}", f"--object-store-memory={80 << 20}", "--include-dashboard=false"]
    identity = {"RAY_CLOUD_INSTANCE_ID": FAKE_HEAD, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD}
    behaviour = {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1", "RAY_enable_autoscaler_v2": "1"}
    environment = os.environ | identity | behaviour | {"RAY_TMPDIR": folder, "STEP_S": STEP_S}
    with open(home / "head.log", "w") as log:
        head = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until(lambda: living(address) == 1, f"the head: see {home / 'head.log'}")
        yield address
    finally:
        # Not by `ray stop`, which ends every Ray of the machine.
        for process in psutil.process_iter(["cmdline"]):
            if any(folder in word for word in process.info["cmdline"] or ()):
                process.kill()
        head.wait()
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def living(address: str) -> int:
    """Return how many nodes a head knows to live; 0 while it does not answer."""
    import ray

    try:
        return sum(
            info.state == 0 for info in ray._raylet.GcsClient(address=address).get_all_node_info(timeout=5).values()
        )
    except Exception:  # of several kinds, before the head is there
        return 0


def wait_until(reached: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Return once something is so."""
    deadline = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline, f"not reached: {what}"
        time.sleep(0.2)


class Ec2(ThreadingHTTPServer):
    """What an EC2 instance asks about itself, version 2 of its protocol."""

    notice: dict[str, str] | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Ec2Answers)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def take_away_in(self, seconds: float) -> None:
        """Announce that the instance ends."""
        when = datetime.now(UTC) + timedelta(seconds=seconds)
        self.notice = {"action": "terminate", "time": when.strftime("%Y-%m-%dT%H:%M:%SZ")}


class Ec2Answers(BaseHTTPRequestHandler):
    """Answers for whoever brings a token."""

    server: Ec2

    def do_PUT(self) -> None:
        allowed = self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self._answer("a token" if allowed else None)

    def do_GET(self) -> None:
        asked = self.path == "/latest/meta-data/spot/instance-action"
        known = asked and self.headers["X-aws-ec2-metadata-token"] == "a token"
        self._answer(json.dumps(self.server.notice) if known and self.server.notice else None)

    def _answer(self, text: str | None) -> None:
        self.send_response(200 if text else 404)
        self.end_headers()
        self.wfile.write((text or "").encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def ec2() -> Iterator[Ec2]:
    """Answer as EC2's metadata service does."""
    with Ec2() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class Driver:
    """A process that trains."""

    def __init__(self, task: Task, **environment: str) -> None:
        self.task, self.folder = task, RunFolder(Path(task.runs) / "test")
        self.log = Path(task.runs + ".log")
        self.last_step: dict[int, int] = {}  # seen while so many workers trained
        with open(self.log, "w") as log:
            command = [sys.executable, __file__, json.dumps(asdict(task))]
            self.process = subprocess.Popen(
                command, env=os.environ | environment, stdout=log, stderr=log, start_new_session=True
            )

    def wait_for(self, *, attempt: int, workers: int, steps: int, timeout_s: float = PATIENCE_S) -> int:
        """Return the step at which, in the nth attempt or later, so many workers have taken some steps together."""
        deadline, first = time.monotonic() + timeout_s, None
        while True:
            status = self.folder.status()
            if status:
                self.last_step[status["workers"]] = status["step"]
            if status.get("workers") == workers and attempts(self.folder) >= attempt:
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

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Return the steps done at the run's end."""
        assert self.process.wait(timeout_s) == 0, self.log.read_text()
        return int(self.folder.status()["step"])

    def __enter__(self) -> "Driver":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, 9)
            self.process.wait()


def checkpoints(folder: RunFolder) -> list[int]:
    """Return the steps of the checkpoints that are there."""
    found = folder.checkpoints.glob("step_*/manifest.json")
    return sorted(int(path.parent.name.removeprefix("step_")) for path in found)


def newest_checkpoint(folder: RunFolder) -> int:
    """Return the step of the newest checkpoint; 0: there is none."""
    return max(checkpoints(folder), default=0)


def attempts(folder: RunFolder) -> int:
    """Return how often workers have begun to train."""
    return sum(row["op"] == "open" for row in recorded(folder))


def recorded(folder: RunFolder) -> list[dict[str, Any]]:
    """Return what a run wants recorded."""
    return [row for row, _ in rows(folder.path / FILE) if row] if (folder.path / FILE).exists() else []


def curve(folder: RunFolder) -> dict[int, list[float]]:
    """Return every loss that was recorded for each step; a step that was taken twice has two."""
    found: dict[int, list[float]] = {}
    for row in recorded(folder):
        if row["op"] == "metrics" and "generator/total" in row["values"]:
            found.setdefault(int(row["step"]), []).append(row["values"]["generator/total"])
    return found


def digest(folder: RunFolder, step: int) -> str:
    """Return the digest of everything that a checkpoint holds."""
    return str(json.loads((folder.checkpoints / f"step_{step:09d}" / "manifest.json").read_text())["digest"])


def train(task: Task) -> None:
    """Train, in this process or from it."""
    from sisr.cluster import connection
    from sisr.cluster import train as on_workers
    from sisr.driver.run import order, record
    from sisr.driver.run.workers import parse
    from sisr.tracking.outbox import Outbox
    from sisr.training import loop
    from sisr.training.run import Options
    from sisr.training.session import PlainSession

    recipe = Path(task.runs + ".py")
    recipe.write_text(RECIPE)
    options = Options(precision="fp64", threads=1, validation_side=48, log_every=1, evaluate_every=task.evaluate_every)
    run, folder, data = order.prepare(
        order.Order(
            recipe=str(recipe),
            values=SETTINGS | {"batch_size": task.batch_size},
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
    on_workers.RESIZE_EVERY_S = 3.0
    scaling = on_workers.Scaling(
        workers=parse(task.workers), gpus_per_worker=task.gpus_per_worker, address=task.address
    )
    on_workers.fit(run, folder, scaling, lambda: None)
    connection.shutdown()


if __name__ == "__main__":
    train(Task(**json.loads(sys.argv[1])))
