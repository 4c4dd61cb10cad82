"""A program of its own for tests: a Ray cluster of several nodes on this machine, and what `shared.check` says of it.

One node, where the system allows it, sees other storage than the rest: a mount namespace lays an empty file system over
one folder and makes another one read-only. Prints a JSON object: what was raised, by case.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16), "RAY_USAGE_STATS_ENABLED": "0"}

import ray
from ray.cluster_utils import Cluster

from sisr.cluster import node_checks, own_ray
from sisr.errors import SisrError
from sisr.tracking import address

SMALL = {"num_cpus": 1, "object_store_memory": 80 << 20}
NAMESPACE = ("unshare", "--mount", "--propagation", "private")


def folder(parent: Path, name: str, uri: str = "http://127.0.0.1:5000") -> Path:
    """Make a run's folder that is recorded at an address."""
    path = parent / name / "run"
    path.mkdir(parents=True)
    address.write(path, address.Address(uri, "sisr"))
    return path


def verdict(path: Path) -> str | None:
    """What is raised about a run's folder, and that nothing is left in it."""
    try:
        node_checks.check(ray, path, grows=False)
        said = None
    except SisrError as error:
        said = f"{type(error).__name__}: {error}"
    assert [found.name for found in path.iterdir()] == [address.FILE]
    return said


def start_apart(cluster: Cluster, hidden: Path, locked: Path) -> "subprocess.Popen[bytes]":
    """Start a node for which one folder is empty and the other read-only."""
    mounts = (
        f"mount -t tmpfs none '{hidden}' && mkdir '{hidden}/run' && mount --bind '{locked}' '{locked}' "
        f"&& mount -o remount,bind,ro '{locked}'"
    )
    start = f"exec '{Path(sys.executable).parent / 'ray'}' start --address={cluster.address} --block --num-cpus=1"
    command = [*NAMESPACE, "sh", "-c", f"{mounts} && {start} --object-store-memory={80 << 20}"]
    return subprocess.Popen(command, stdout=sys.stderr, stderr=sys.stderr, start_new_session=True)


def wait_for_nodes(count: int, apart: "subprocess.Popen[bytes]", timeout_s: float = 240) -> None:
    deadline = time.monotonic() + timeout_s
    while sum(node["Alive"] for node in ray.nodes()) < count:
        assert apart.poll() is None, "the node ended"
        assert time.monotonic() < deadline, "the node did not come"
        time.sleep(0.2)


def main(parent: Path) -> dict[str, Any]:
    """Return what is raised, by case."""
    with own_ray.started_for_us():
        cluster = Cluster(initialize_head=True, head_node_args={**SMALL, "include_dashboard": False})
        cluster.add_node(**SMALL)
    ray.init(address=cluster.address, log_to_driver=False)
    said = {
        "shared": verdict(folder(parent, "shared")),
        "sqlite": verdict(folder(parent, "sqlite", f"sqlite:///{parent}/mlflow.db")),
    }
    hidden, locked = folder(parent, "hidden"), folder(parent, "locked")
    if subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode == 0:
        apart = start_apart(cluster, hidden.parent, locked.parent)
        try:
            wait_for_nodes(3, apart)
            said |= {"hidden": verdict(hidden), "locked": verdict(locked)}
        finally:
            os.killpg(apart.pid, signal.SIGKILL)
    ray.shutdown()
    cluster.shutdown()
    return said


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
