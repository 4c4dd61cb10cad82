"""When a run saves because its workers will be taken away, and when it gives up waiting for others."""

import re
import shlex
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nodes import ec2
from sisr import recipes
from sisr.cluster import allocation, capacity, preemption, saving, worker
from sisr.config.yaml import read_yaml
from sisr.disk.run_folder import RunFolder
from sisr.driver.run import execute
from sisr.driver.run.workers import Workers, exactly
from sisr.errors import StoppedError
from sisr.training.run import Options, Run


def test_who_asks_for_a_checkpoint_waits_until_it_is_written() -> None:
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(saving.save_now()))
    thread.start()
    while not saving.requested.is_set():
        pass
    assert not answers
    saving.confirm_saved()
    thread.join()
    assert answers == [True]
    assert not saving.requested.is_set()


def test_who_gets_no_checkpoint_goes_on_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "PATIENCE_S", 0.0)
    assert saving.save_now() is False
    saving.confirm_saved()


def info(seconds: float | None) -> SimpleNamespace:
    return SimpleNamespace(deadline_ms=None if seconds is None else (time.time() + seconds) * 1000)


@pytest.mark.parametrize(
    ("seconds", "saves"),
    [
        (None, [True, False, False]),
        (120.0, [True, False, False]),  # again shortly before
        (worker.LAST_SAVE_S - 1, [True, False, False]),  # the first is the last as well
    ],
)
def test_a_notice_is_answered_once(seconds: float | None, saves: list[bool]) -> None:
    context = SimpleNamespace(preemption_info=None)
    notices = worker.PreemptionWatch(context)
    assert not notices.requests_checkpoint()
    context.preemption_info = info(seconds)
    assert [notices.requests_checkpoint() for _ in saves] == saves
    context.preemption_info = info(seconds)  # another node
    assert notices.requests_checkpoint()


def test_shortly_before_a_node_goes_the_run_saves_again(monkeypatch: pytest.MonkeyPatch) -> None:
    context = SimpleNamespace(preemption_info=info(120.0))
    notices, now = worker.PreemptionWatch(context), time.time()
    assert notices.requests_checkpoint()
    monkeypatch.setattr(time, "time", lambda: now + 99.0)
    assert not notices.requests_checkpoint()
    monkeypatch.setattr(time, "time", lambda: now + 101.0)
    assert [notices.requests_checkpoint(), notices.requests_checkpoint()] == [True, False]


def test_ec2_s_notice_is_read_with_a_token_and_silence_is_none() -> None:
    with ec2() as metadata:
        assert preemption.ec2_preemption(metadata.url) is None
        before = time.time()
        metadata.take_away_in(120)
        after = time.time()
        found = preemption.ec2_preemption(metadata.url)
    assert found is not None
    assert before - 1 < found - 120 <= after, "a notice is in whole seconds"
    assert preemption.ec2_preemption(metadata.url) is None, "nobody answers any more"


def test_workers_on_aws_and_pods_that_are_stopped_pass_notices_on(repository: Path) -> None:
    command = read_yaml(repository / "cluster.yaml")["worker_start_ray_commands"][-1]
    said = preemption.command_line().parse_args(
        shlex.split(command.partition("sisr.cluster.preemption ")[2].partition(" >>")[0])
    )
    assert (said.verb, said.metadata, said.address) == ("watch", preemption.METADATA, "$RAY_HEAD_IP:6379")
    (hook,) = re.findall(r"exec: {command: \[python, -m, sisr.cluster.preemption, (.*)]}", pods(repository))
    left = preemption.command_line().parse_args(shlex.split(hook.replace(",", "")))
    (grace,) = re.findall(r"terminationGracePeriodSeconds: (\d+)", pods(repository))
    assert left.verb == "leave"
    assert left.seconds < float(grace)


def test_kubernetes_says_what_may_come_as_it_is(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (stated,) = re.findall(r"value: '(\[.*])'", pods(repository))
    monkeypatch.setenv(capacity.NODE_TYPES, stated)
    (kind,) = capacity.read(cluster_with()).types
    (count,) = re.findall(r"maxReplicas: (\d+)", pods(repository))
    (cpus, gpus) = re.findall(r'requests: {cpu: "(\d+)", memory: \w+, nvidia.com/gpu: "(\d+)"}', pods(repository))[0]
    assert kind == capacity.NodeType(int(count), {"CPU": float(cpus), "GPU": float(gpus)})


def pods(repository: Path) -> str:
    return (repository / "deploy" / "raycluster.yaml").read_text()


def cluster_with(*cpus: float) -> SimpleNamespace:
    head = {"CPU": 0.0, capacity.HEAD: 1.0}
    return SimpleNamespace(
        nodes=lambda: [{"Alive": True, "Resources": one} for one in (head, *({"CPU": c} for c in cpus))]
    )


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocation, "CHECK_EVERY_S", 0.0)
    monkeypatch.setattr(allocation, "WARN_AFTER_S", 0.0)


@pytest.mark.usefixtures("impatient")
def test_missing_nodes_are_named_once_and_given_up_in_the_end(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    patient = allocation.NodeWait(cluster_with(1), folder, Workers(2, 4), {"CPU": 1, "GPU": 0}, 600)
    patient.check()
    patient.check()
    (said,) = folder.warnings()
    assert said.startswith("waiting for nodes with room for 2 workers x 1 CPU, 10 minutes at most")
    hasty = allocation.NodeWait(cluster_with(1), folder, Workers(2, 4), {"CPU": 1, "GPU": 0}, 0)
    with pytest.raises(StoppedError, match="found no room for 2 workers x 1 CPU within 0 minutes; the same command"):
        hasty.check()


def test_a_run_that_found_no_room_is_stopped_and_not_failed(tmp_path: Path, no_courier: None) -> None:
    def host(run: Run, folder: RunFolder, tick: Callable[[], None]) -> dict[str, Any]:
        raise StoppedError("no room")

    values = recipes.load("pixelshuffle").tiny().model_dump(mode="json")
    options = Options(validation_side=48)
    order = execute.Order(recipe="pixelshuffle", values=values, options=options, name="r", runs=tmp_path)
    with pytest.raises(StoppedError, match="no room"):
        execute.execute(order, execute.Tracking(), host)
    assert RunFolder(tmp_path / "r").status() == {"state": "stopped", "message": "no room"}


@pytest.mark.usefixtures("impatient")
def test_nodes_that_are_there_are_no_reason_to_give_up_however_slowly_their_workers_start(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for workers in (exactly(2), Workers(1, 4)):
        allocation.NodeWait(cluster_with(1, 1), folder, workers, {"CPU": 1, "GPU": 0}, 0).check()
    assert folder.warnings() == []
