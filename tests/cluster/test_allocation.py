"""What each worker gets of the nodes that there are, and of those that an autoscaler may start."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from sisr.cluster import capacity
from sisr.cluster.allocation import allocate
from sisr.cluster.capacity import Capacity, NodeType, with_defaults
from sisr.config.yaml import read_yaml
from sisr.doctor import cluster_file
from sisr.driver.run.workers import Workers, exactly, parse
from sisr.errors import ConfigError

HEAD = {"CPU": 0.0, "GPU": 0.0}
GPU_NODE = {"CPU": 4.0, "GPU": 1.0}
FROM_ZERO = Capacity(HEAD, (), (NodeType(4, GPU_NODE), NodeType(4, GPU_NODE)), limit=4)  # as in cluster.yaml


def cpu_nodes(*sizes: float) -> Capacity:
    return Capacity({"CPU": sizes[0]}, tuple({"CPU": size} for size in sizes[1:]))


@pytest.mark.parametrize(
    ("workers", "there", "cpu", "gpu"),
    [
        (exactly(2), cpu_nodes(8), 4, 0),
        (exactly(3), cpu_nodes(2), None, None),  # one CPU each is too many
        (exactly(2), cpu_nodes(3, 5), 3, 0),  # 4 would not fit on the first
        (exactly(2), Capacity({"CPU": 8, "GPU": 2}, ()), 1, 1),
        (exactly(4), Capacity({"CPU": 8, "GPU": 2}, ()), 2, 0),
        (exactly(4), FROM_ZERO, 1, 1),  # nothing is up yet
        (parse("1:8"), FROM_ZERO, 1, 1),  # four at most, and one is enough
        (exactly(5), FROM_ZERO, 2, 0),  # 3 would leave room for one on each of four nodes
        (parse("1:2"), cpu_nodes(0, 1), 1, 0),
        (parse("2:8"), cpu_nodes(16, 16), 4, 0),
    ],
)
def test_each_worker_gets_what_fits(workers: Workers, there: Capacity, cpu: float | None, gpu: float | None) -> None:
    if cpu is None:
        with pytest.raises(ConfigError, match="3 workers x 1 CPU can't fit: this Ray has 2 CPU, room for 2"):
            allocate(workers, there)
    else:
        assert allocate(workers, there).resources == {"CPU": cpu, "GPU": gpu}


def test_who_waits_for_gpu_nodes_is_told_so() -> None:
    note = allocate(exactly(2), FROM_ZERO).note
    assert "each of 2 workers gets a GPU; there is room for none of them yet, the autoscaler is asked for more" in note
    assert "--gpus-per-worker 0 trains on CPUs" in note
    assert not allocate(exactly(2), FROM_ZERO, gpus=1).note, "who asks for GPUs knows"
    assert not allocate(exactly(1), Capacity(HEAD, (GPU_NODE,), FROM_ZERO.types, 4)).note, "the node is there"


def test_gpus_that_are_too_few_are_named_with_what_would_use_them() -> None:
    note = allocate(exactly(4), Capacity({"CPU": 8, "GPU": 2}, ())).note
    assert "4 workers can't have a GPU each of 2" in note
    assert "--gpus-per-worker 0.5" in note


def test_more_than_an_autoscaler_may_ever_start_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"5 workers x 1 CPU and 1 GPU can't fit: .* 4 GPU with all nodes that may come"
    ):
        allocate(exactly(5), FROM_ZERO, gpus=1)


def test_nodes_of_an_unknown_kind_are_waited_for_where_their_user_says_what_they_have() -> None:
    lab = Capacity({"CPU": 8.0, "GPU": 0.0}, (), (NodeType(2, None),), limit=2)
    assert allocate(exactly(2), lab, gpus=1).resources == {"CPU": 1, "GPU": 1}
    assert "--gpus-per-worker 1 waits for GPUs" in allocate(exactly(2), lab).note


def nodes(*resources: dict[str, float]) -> SimpleNamespace:
    return SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": one} for one in resources])


def test_the_launcher_s_configuration_on_the_head_says_what_may_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert not capacity.can_grow()
    kinds = {
        "head": {"max_workers": 0, "resources": {"CPU": 0}},
        "gpu": {"max_workers": 4, "min_workers": 0, "resources": {"CPU": 4, "memory": 9, "GPU": 1}},
        "lab": {"max_workers": 1, "resources": {}},
    }
    config = {"max_workers": 3, "head_node_type": "head", "available_node_types": kinds}
    (tmp_path / capacity.LAUNCHER_FILE).write_text(json.dumps(config))
    found = capacity.read(nodes({"CPU": 0, capacity.HEAD: 1}))
    assert (found.grows, found.uncertain, found.limit) == (True, True, 3)
    assert found.types == (NodeType(4, GPU_NODE), NodeType(1, None))
    assert (found.fits({"GPU": 1}), found.may_fit({"GPU": 1}), found.total("CPU")) == (0, 3, 12)


def test_machines_of_one_s_own_are_all_up_after_ray_up_so_none_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    written = dict(cluster_file.plain(read_yaml(repository / "cluster.local.yaml")))
    written["provider"] = {"type": "local", "head_ip": "10.0.0.1", "worker_ips": ["10.0.0.2", "10.0.0.3"]}
    (tmp_path / capacity.LAUNCHER_FILE).write_text(json.dumps(with_defaults(written)))
    node = {"CPU": 2.0, "GPU": 0.0}
    found = capacity.read(nodes({**node, capacity.HEAD: 1}, node, node))
    assert (found.grows, found.uncertain, found.may_fit({"CPU": 1})) == (False, False, 6)


def test_elsewhere_a_variable_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(capacity.NODE_TYPES, '[{"max_workers": 4, "resources": {"CPU": 3, "GPU": 1}}]')
    found = capacity.read(nodes({"CPU": 2, "GPU": 0, capacity.HEAD: 1}, {"CPU": 3, "GPU": 1}))
    assert (found.fits({"CPU": 1, "GPU": 1}), found.may_fit({"CPU": 1, "GPU": 1}), found.total("CPU")) == (1, 4, 14)
    monkeypatch.setenv(capacity.NODE_TYPES, "4 x GPU")
    with pytest.raises(ConfigError, match="SISR_NODE_TYPES wants a list such as"):
        capacity.can_grow()
