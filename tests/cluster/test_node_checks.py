"""What the nodes of a cluster must have in common, looked at before training starts."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sisr.cluster import node_checks
from sisr.cluster.node_checks import NodeView
from sisr.disk import code_revision
from sisr.errors import ConfigError, DiskError, SisrError

GIB = 2**30


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """What the check raised on a real cluster of several nodes, by case."""
    program = Path(__file__).parents[1] / "support" / "several_nodes.py"
    command = [sys.executable, str(program), str(tmp_path_factory.mktemp("runs"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.ray
@pytest.mark.slow
def test_a_folder_that_every_node_sees_is_fine(said: dict[str, str | None]) -> None:
    assert said["shared"] is None


@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_run_is_not_recorded_in_a_file(said: dict[str, str | None]) -> None:
    assert said["sqlite"] is not None
    assert said["sqlite"].startswith("ConfigError: a run on a cluster can't be recorded in sqlite:")
    assert "set MLFLOW_TRACKING_URI or --tracking-uri to a server" in said["sqlite"]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "error", "remedy"),
    [
        ("hidden", "ConfigError: ", "set --runs to a folder on storage that every node mounts"),
        ("locked", "DiskError: ", "can't write to"),
    ],
)
def test_a_node_with_other_storage_is_named(said: dict[str, str | None], case: str, error: str, remedy: str) -> None:
    if case not in said:
        pytest.skip("this system lets nobody make a mount namespace")
    assert said[case] is not None
    assert str(said[case]).startswith(error)
    assert remedy in str(said[case])


def seen(**changes: object) -> NodeView:
    fields = {"node": "10.0.0.2", "text": "token", "problem": None, "free": 90 * GIB, "code": code_revision.digest()}
    return NodeView(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"text": None}, ConfigError, "runs/a is not the same on every node: 10.0.0.2 does not see"),
        ({"text": "another's"}, ConfigError, "runs/a is not the same on every node"),
        ({"node": "10.0.0.9"}, ConfigError, "10.0.0.9 does not see"),
        ({"problem": "Permission denied"}, DiskError, "node 10.0.0.2 can't write to runs/a: Permission denied"),
        ({"free": GIB}, DiskError, "runs/a has 1.0 GiB left, seen from 10.0.0.2"),
        ({"code": "0123456789ab"}, ConfigError, "node 10.0.0.2 has other code (digest 0123456789ab)"),
    ],
)
def test_whatever_a_node_lacks_is_said_with_what_to_do(
    changes: dict[str, object], kind: type[SisrError], message: str
) -> None:
    good, written = seen(node="10.0.0.1"), {".probe.10.0.0.1", ".probe.10.0.0.2"}
    node_checks.require_agreement([good, seen()], "token", written, ".probe", Path("runs/a"))
    with pytest.raises(kind) as raised:
        node_checks.require_agreement([good, seen(**changes)], "token", written, ".probe", Path("runs/a"))
    assert message in str(raised.value)


def test_one_machine_is_not_looked_at(tmp_path: Path) -> None:
    alone = SimpleNamespace(nodes=lambda: [{"Alive": True}, {"Alive": False}])
    node_checks.check(alone, tmp_path / "absent", grows=False)


def test_a_worker_on_a_node_that_came_later_looks_for_the_run_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not see"):
        node_checks.require_run(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    node_checks.require_run(tmp_path)
