"""Nodes that come and go while a run is trained: it goes on, and learns what it would have learned undisturbed."""

import math
from pathlib import Path

import pytest

from nodes import (
    Driver,
    Task,
    autoscaled,
    checkpoints,
    cluster,
    curve,
    ec2,
    living,
    newest_checkpoint,
    train,
    wait_until,
)
from sisr.cluster import preemption
from sisr.disk.run_folder import RunFolder

# Two cores take half a minute for each start of Ray's workers, and ten times that when others use them, too.
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1500)]


def test_an_elastic_run_that_loses_gains_and_leaves_nodes_learns_what_an_undisturbed_one_does(tmp_path: Path) -> None:
    with cluster() as nodes, ec2() as metadata:
        lost, taken = nodes.add_node(num_cpus=1), nodes.add_node(num_cpus=1)
        task = Task(runs=str(tmp_path / "elastic"), address=nodes.address, workers="1:2", evaluate_every=50)
        with Driver(task) as elastic:
            elastic.wait_for(attempt=1, workers=2, steps=task.evaluate_every + 5)
            nodes.remove_node(lost, allow_graceful=False)
            elastic.wait_for(attempt=2, workers=1, steps=5)
            nodes.add_node(num_cpus=1)
            grown = elastic.wait_for(attempt=3, workers=2, steps=5)
            assert newest_checkpoint(elastic.folder) >= elastic.last_step[1], "it saved before it grew"
            metadata.take_away_in(120)
            preemption.main(["--address", nodes.address, "--node", taken._node_id, "watch", "--metadata", metadata.url])
            wait_until(lambda: saved_between_evaluations(elastic, grown), "a checkpoint at once, for the notice")
            nodes.remove_node(taken, allow_graceful=False)
            elastic.wait_for(attempt=4, workers=1, steps=5)
            done = elastic.stop()
    train(Task(runs=str(tmp_path / "plain"), until=done))
    expected, found = curve(RunFolder(tmp_path / "plain" / "test")), curve(elastic.folder)
    assert list(found) == list(expected) == list(range(1, done + 1))
    apart = {
        step
        for step, losses in found.items()
        for one in losses
        if not math.isclose(one, expected[step][0], rel_tol=1e-9)
    }
    assert not apart


def saved_between_evaluations(driver: Driver, after: int) -> bool:
    return any(step > after and step % driver.task.evaluate_every for step in checkpoints(driver.folder))


def test_nodes_come_from_zero_for_a_run_and_go_when_it_has_ended(tmp_path: Path) -> None:
    with autoscaled(tmp_path) as address:
        task = Task(runs=str(tmp_path / "scaled"), address=address, workers="2", batch_size=4, gpus_per_worker=0.5)
        with Driver(task, HOME=str(tmp_path)) as driver:
            driver.wait_for(attempt=1, workers=2, steps=5)
            assert living(address) == 3
            driver.stop()
        wait_until(lambda: living(address) == 1, "the nodes have left")
