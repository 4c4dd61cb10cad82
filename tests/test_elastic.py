"""Nodes that come and go while a run is trained: it goes on, and learns what it would have learned undisturbed."""

import math
from pathlib import Path

import pytest

from nodes import EVALUATE_EVERY, Driver, Task, cluster, curve


@pytest.mark.ray
@pytest.mark.slow
def test_an_elastic_run_shrinks_and_grows_and_its_losses_are_those_of_an_undisturbed_one(tmp_path: Path) -> None:
    with cluster() as nodes:
        lost, _ = nodes.add_node(num_cpus=1), nodes.add_node(num_cpus=1)
        with Driver(Task(runs=str(tmp_path / "elastic"), address=nodes.address, workers="1:2")) as elastic:
            elastic.wait_for(workers=2, steps=EVALUATE_EVERY + 5)
            nodes.remove_node(lost, allow_graceful=False)
            elastic.wait_for(workers=1, steps=5)
            nodes.add_node(num_cpus=1)
            elastic.wait_for(workers=2, steps=5)
            done = elastic.stop()
    with Driver(Task(runs=str(tmp_path / "plain"), until=done)) as plain:
        assert plain.wait() == done
    expected, found = curve(plain.folder), curve(elastic.folder)
    assert list(found) == list(expected) == list(range(1, done + 1))
    apart = {
        step
        for step, losses in found.items()
        for one in losses
        if not math.isclose(one, expected[step][0], rel_tol=1e-9)
    }
    assert not apart
