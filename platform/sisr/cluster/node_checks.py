"""What the nodes of a cluster must have in common, checked before training starts: storage, code, and tracking.

Checkpoints go to the run's folder by its path, from whichever node the first worker is on; so that folder must be the
same storage everywhere. Only the driver's machine connects to MLflow: other nodes need not reach its address.
"""

import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sisr.disk import cache, code_revision
from sisr.disk.run_folder import RECORD
from sisr.errors import ConfigError, DiskError, SisrError, StorageError
from sisr.storage import claim
from sisr.storage.address import Address, parse
from sisr.storage.bucket import Bucket
from sisr.terminal.console import note
from sisr.tracking import address
from sisr.tracking.redact import redact_text

TIMEOUT_S = 120.0  # for a first Python process on each node; new nodes start slowly
LEAST_FREE = 2 << 30  # bytes: a few checkpoints of the largest recipe
SHARED_FOLDER = (
    "set --runs to a folder on storage that every node mounts under the same path (NFS, EFS, Lustre): cluster.yaml "
    "mounts one at /shared, and `runs` in the home folder of its nodes leads there"
)
TRACKING_SERVER = (
    "set MLFLOW_TRACKING_URI or --tracking-uri to a server's http://HOST:PORT; `ray up cluster.yaml` starts one on the "
    "head, http://127.0.0.1:5000. One that can't be reached will do: `sisr sync` delivers later"
)


@dataclass(frozen=True)
class NodeView:
    """What one node sees of the run's folder."""

    node: str  # its address
    text: str | None  # what it read from the driver's file; None where it found none
    problem: str | None  # why it could not write; None where it could
    free: int  # bytes
    code: str  # digest of its sources


def check(ray: Any, run_folder: Path, *, grows: bool) -> None:
    """Make sure that all nodes of a cluster see the run's folder, may write there, and run the same code.

    On one machine to which no autoscaler may add others (`grows`), nothing is checked.

    Raises:
        ConfigError: The folder is some node's own, a node has other code, or MLflow is a file.
        DiskError: A node can't write there, or there is too little room.
    """
    if not may_have_others(ray, grows):
        return
    place = address.read(run_folder)
    if place and place.tracking_uri.startswith(("sqlite:", "file:", "/", ".")):
        uri = redact_text(place.tracking_uri)
        raise ConfigError(f"a run on a cluster can't be recorded in {uri}, a file: {TRACKING_SERVER}")
    with _probe(run_folder) as (name, text):
        seen = _ask_nodes(ray, _look, str(run_folder.resolve()), name)
        written = {path.name for path in run_folder.glob(f"{name}.*")}
    require_agreement(seen, text, written, name, run_folder)


def may_have_others(ray: Any, grows: bool) -> bool:
    """Return whether a cluster has several nodes, or may get more (`grows`)."""
    return grows or sum(bool(node["Alive"]) for node in ray.nodes()) > 1


def check_storage(ray: Any, place: Address) -> None:
    """Make sure that all nodes of a cluster reach a run's place in a bucket, have room, and run the same code.

    Raises:
        ConfigError: A node has other code.
        DiskError: A node has too little room.
        StorageError: A node can't read it.
    """
    for one in _ask_nodes(ray, _look_at_storage, place.written):
        if one.problem is not None:
            raise StorageError(f"node {one.node}: {one.problem}")
        _require_room_and_code(one, str(cache.folder()))


def require_agreement(seen: Sequence[NodeView], text: str, written: set[str], name: str, run_folder: Path) -> None:
    """Raise an error where the nodes differ in what they see.

    The driver wrote `text` to a file called `name`, and sees files called `written`: a node's has ".ADDRESS" behind it.
    """
    here = socket.gethostname()
    for one in seen:
        if one.text != text or (one.problem is None and f"{name}.{one.node}" not in written):
            raise ConfigError(
                f"{run_folder} is not the same on every node: {one.node} does not see what {here} wrote there: "
                + SHARED_FOLDER
            )
        if one.problem is not None:
            raise DiskError(f"node {one.node} can't write to {run_folder}: {one.problem}; let its user write there")
        _require_room_and_code(one, str(run_folder))


def _require_room_and_code(one: NodeView, where: str) -> None:
    if one.free < LEAST_FREE:
        raise DiskError(
            f"{where} has {one.free / 2**30:.1f} GiB left, seen from {one.node}; checkpoints want "
            f"{LEAST_FREE >> 30} GiB: free some, or set --runs to larger storage"
        )
    if one.code != code_revision.digest():
        raise ConfigError(
            f"node {one.node} has other code (digest {one.code}) than {socket.gethostname()} "
            f"({code_revision.digest()}): `ray up -y` with your cluster file, when nothing runs there, gives all nodes "
            "that of the submitting machine"
        )


def require_run(run_folder: Path) -> None:
    """Raise ConfigError on a worker whose node does not see the run's folder, such as one that came later."""
    if not (run_folder / RECORD).is_file():
        raise ConfigError(f"node {socket.gethostname()} does not see {run_folder}: {SHARED_FOLDER}")


@contextmanager
def _probe(folder: Path) -> Iterator[tuple[str, str]]:
    """Give name and text of a file that the nodes are to read in the folder; remove it and theirs afterwards."""
    name, text = f".probe-{secrets.token_hex(4)}", secrets.token_hex(16)
    (folder / name).write_text(text)
    try:
        yield name, text
    finally:
        for path in folder.glob(f"{name}*"):
            path.unlink(missing_ok=True)


def _ask_nodes(ray: Any, look: Callable[..., NodeView], *place: str) -> list[NodeView]:
    """Return what every living node sees at a place, from a task on each that takes no CPU."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=1)(look)
    asked = {}
    for node in ray.nodes():
        if node["Alive"]:
            pin = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            label = f"{node['NodeManagerAddress']}-{node['NodeID'][:8]}"
            asked[label] = task.options(scheduling_strategy=pin).remote(*place, label)
    try:
        return list(ray.get(list(asked.values()), timeout=TIMEOUT_S))
    except ray.exceptions.GetTimeoutError:
        silent = [label for label, answer in asked.items() if not ray.wait([answer], timeout=0)[0]]
        note(f"no answer from {', '.join(silent)} within {TIMEOUT_S:.0f} s; going on without asking")
        return [answer for label in asked if label not in silent for answer in ray.get([asked[label]])]


def _look(folder: str, name: str, node: str) -> NodeView:
    """Return what this node sees of the folder, after writing a file there."""
    path = Path(folder)
    code = code_revision.digest()
    try:
        text = (path / name).read_text()
        free = shutil.disk_usage(path).free
    except OSError:
        return NodeView(node, None, None, 0, code)
    try:
        with open(path / f"{name}.{node}", "x") as file:
            os.fsync(file.fileno())
    except OSError as error:
        return NodeView(node, text, error.strerror or str(error), free, code)
    return NodeView(node, text, None, free, code)


def _look_at_storage(place: str, node: str) -> NodeView:
    """Return what this node can read of a run in a bucket, and how much room it has for it."""
    here, problem = cache.folder().absolute(), None
    try:
        here.mkdir(parents=True, exist_ok=True)
        claim.read(Bucket(parse(place)))
    except (SisrError, OSError) as error:
        problem = str(error)
    free = shutil.disk_usage(here).free if here.is_dir() else 0
    return NodeView(node, None, problem, free, code_revision.digest())
