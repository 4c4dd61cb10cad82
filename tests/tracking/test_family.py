"""A sweep's delivery against a real SQLite store and a real `mlflow server` that is killed and started again."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from mlflow_shortcuts import new_database
from sisr.errors import TrackingError
from sisr.tracking import address, courier
from sisr.tracking.outbox import FILE, Outbox
from sisr.tracking.server import Server

pytestmark = pytest.mark.mlflow


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    for name, value in address.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return the address of one SQLite file for all tests: creating one takes seconds."""
    return address.default_uri(tmp_path_factory.mktemp("store"))


@pytest.fixture
def sweep(tmp_path):
    """Return the folder of a sweep that has just begun."""
    folder = tmp_path / "runs" / "hunt"
    folder.mkdir(parents=True)
    (folder / "sweep.json").write_text("{}")
    begin(folder)
    return folder


def begin(folder):
    with Outbox(folder) as outbox:
        outbox.params({"space": "learning_rate"})
        outbox.status("RUNNING")


def trial_of(sweep, number):
    return sweep / "trials" / f"{number:04d}"


def write_trial(sweep, number, steps=range(3), status="FINISHED"):
    with Outbox(trial_of(sweep, number)) as outbox:
        outbox.params({"learning_rate": number / 10})
        outbox.status("RUNNING")
        for step in steps:
            outbox.metrics(step, {"loss": number + step / 4})
        if status != "RUNNING":
            outbox.status(status)


def end(folder, status="FINISHED"):
    with Outbox(folder) as outbox:
        outbox.metrics(0, {"best": 1.0})
        outbox.status(status)


def client(uri):
    from mlflow import MlflowClient

    return MlflowClient(uri)


def run_id_of(folder: Path) -> str:
    place = address.read(folder)
    assert place is not None
    assert place.run_id is not None
    return place.run_id


def children(sweep, uri):
    """Return the MLflow runs below a sweep's, by name."""
    speaker, parent = client(uri), run_id_of(sweep)
    experiment = speaker.get_run(parent).info.experiment_id
    found = speaker.search_runs([experiment], f"tags.mlflow.parentRunId = '{parent}'")
    assert len({run.info.run_name for run in found}) == len(found)
    return {run.info.run_name: run for run in found}


def every_run(uri):
    speaker = client(uri)
    return speaker.search_runs([experiment.experiment_id for experiment in speaker.search_experiments()])


def history(folder, uri):
    return [(p.step, p.value) for p in client(uri).get_metric_history(run_id_of(folder), "loss")]


def expected(number, steps=range(3)):
    return [(step, number + step / 4) for step in steps]


def wait_for(condition, timeout_s=240):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.2)


def test_a_trial_is_recorded_where_its_sweep_is(sweep, store):
    trial = trial_of(sweep, 3)
    for server in (store, "http://127.0.0.1:9"):
        address.choose(server, sweep.parent)  # named by the user once
    assert address.decide(trial) == address.Address(address.default_uri(sweep.parent), "sisr")
    address.write(sweep, address.Address("http://127.0.0.1:9", "hunts", "parent"))
    assert address.decide(trial) == address.Address("http://127.0.0.1:9", "hunts")
    address.write(sweep, address.Address(store, "hunts", "parent"))
    trial.mkdir(parents=True)
    address.write(trial, address.Address(store, "hunts", "child"))
    assert address.decide(trial) == address.Address(store, "hunts", "child")
    assert address.decide(trial, "http://127.0.0.1:9", "x") == address.Address("http://127.0.0.1:9", "x")


def test_trials_that_come_during_a_sweep_are_nested_below_it(sweep, store, forked_courier):
    write_trial(sweep, 0)
    handle = courier.start(sweep, store, "hunts")
    wait_for(lambda: courier.standing(sweep).pending == 0)
    write_trial(sweep, 1)
    wait_for(lambda: courier.standing(trial_of(sweep, 1)).pending == 0)
    write_trial(sweep, 7)
    end(sweep)
    assert handle.finish() == courier.DeliveryState(True, 0, "", {"0000": 0, "0001": 0, "0007": 0})
    found = children(sweep, store)
    assert sorted(found) == ["hunt/0000", "hunt/0001", "hunt/0007"]
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert {run.data.params["learning_rate"] for run in found.values()} == {"0.0", "0.1", "0.7"}
    parent = client(store).get_run(run_id_of(sweep))
    assert (parent.info.run_name, parent.info.status) == ("hunt", "FINISHED")
    assert "mlflow.parentRunId" not in parent.data.tags
    assert client(store).get_experiment(parent.info.experiment_id).name == "hunts"
    assert [history(trial_of(sweep, n), store) for n in (0, 1, 7)] == [expected(n) for n in (0, 1, 7)]


def test_what_trials_write_after_the_driver_asked_to_end_arrives(sweep, store, forked_courier):
    handle = courier.start(sweep, store)
    with Outbox(trial_of(sweep, 0)) as outbox:
        outbox.status("RUNNING")
        wait_for(lambda: courier.standing(sweep).pending == 0)
        end(sweep)
        reports: list[courier.DeliveryState] = []
        finishing = threading.Thread(target=lambda: reports.append(handle.finish()))
        finishing.start()
        time.sleep(3)
        outbox.metrics(0, {"loss": 0.5})
        outbox.status("FINISHED")
    finishing.join()
    assert reports[0].delivered
    assert history(trial_of(sweep, 0), store) == [(0, 0.5)]
    assert children(sweep, store)["hunt/0000"].info.status == "FINISHED"


def test_a_trial_whose_process_vanished_is_marked_killed_when_the_sweep_ends(sweep, store, forked_courier):
    write_trial(sweep, 0, status="RUNNING")
    write_trial(sweep, 1)
    handle = courier.start(sweep, store)
    end(sweep)
    assert handle.finish().delivered
    assert {name: run.info.status for name, run in children(sweep, store).items()} == {
        "hunt/0000": "KILLED",
        "hunt/0001": "FINISHED",
    }


def test_a_waiting_trial_of_a_sweep_that_goes_on_is_not_marked_killed(sweep, store):
    write_trial(sweep, 0, status="RUNNING")
    with Outbox(sweep):  # the driver is there
        assert courier.deliver(sweep, store).delivered
    assert children(sweep, store)["hunt/0000"].info.status == "RUNNING"
    assert courier.deliver(sweep, store).delivered
    assert children(sweep, store)["hunt/0000"].info.status == "KILLED"


def test_a_killed_driver_leaves_a_killed_sweep_that_goes_on_in_the_same_mlflow_runs(sweep, store, forked_courier):
    code = (
        "import sys, pathlib; from sisr.tracking import courier; from sisr.tracking.outbox import Outbox\n"
        "d = pathlib.Path(sys.argv[1]); h = courier.start(d, sys.argv[2]); sweep = Outbox(d)\n"
        "trials = [Outbox(d / 'trials' / f'{i:04d}') for i in range(3)]\n"
        "[t.status('RUNNING') or t.metrics(0, {'loss': i}) for i, t in enumerate(trials)]\n"
        "trials[0].status('FINISHED'); print(h.pid, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(sweep), store]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as driver:
        assert driver.stdout is not None
        pid = int(driver.stdout.readline())
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    before = children(sweep, store)
    assert client(store).get_run(run_id_of(sweep)).info.status == "KILLED"
    assert [before[f"hunt/000{n}"].info.status for n in range(3)] == ["FINISHED", "KILLED", "KILLED"]

    handle = courier.start(sweep)
    begin(sweep)
    with Outbox(trial_of(sweep, 1)) as outbox:
        outbox.status("RUNNING")
        outbox.metrics(1, {"loss": 2.0})
        wait_for(lambda: courier.standing(sweep).pending == 0)
        now = children(sweep, store)
        assert client(store).get_run(run_id_of(sweep)).info.status == "RUNNING"
        assert [now[f"hunt/000{n}"].info.status for n in range(3)] == ["FINISHED", "RUNNING", "KILLED"]
        outbox.status("FINISHED")
    end(sweep)
    assert handle.finish().delivered
    now = children(sweep, store)
    assert {n: r.info.run_id for n, r in now.items()} == {n: r.info.run_id for n, r in before.items()}
    assert history(trial_of(sweep, 1), store) == [(0, 1.0), (1, 2.0)]


def test_nothing_is_doubled_when_the_courier_and_what_it_remembers_are_lost(sweep, store, forked_courier):
    for number in range(3):
        write_trial(sweep, number)
    handle = courier.start(sweep, store, "lost")
    wait_for(lambda: courier.standing(trial_of(sweep, 2)).pending == 0)
    os.kill(handle.pid, signal.SIGKILL)
    for folder in (sweep, *sorted((sweep / "trials").iterdir())):
        for name in ("outbox.ack", "mlflow.json"):
            (folder / name).unlink(missing_ok=True)
    write_trial(sweep, 1, range(3, 5))
    handle.finish()
    assert courier.deliver(sweep, store, "lost").delivered
    assert sorted(children(sweep, store)) == ["hunt/0000", "hunt/0001", "hunt/0002"]
    assert history(trial_of(sweep, 1), store) == expected(1, range(5))
    experiment = client(store).get_experiment_by_name("lost")
    assert len([run for run in every_run(store) if run.info.experiment_id == experiment.experiment_id]) == 4


def test_a_trial_deleted_in_mlflow_does_not_hold_up_the_others(sweep, store):
    write_trial(sweep, 0)
    write_trial(sweep, 1)
    courier.deliver(sweep, store)
    client(store).delete_run(run_id_of(trial_of(sweep, 0)))
    write_trial(sweep, 0, range(3, 5))
    write_trial(sweep, 1, range(3, 5))
    report = courier.deliver(sweep, store)
    assert report.trials["0000"] > 0
    assert report.trials["0001"] == 0
    assert "trial 0000 is skipped" in report.message
    assert "was deleted" in report.message
    assert history(trial_of(sweep, 1), store) == expected(1, range(5))


def test_a_trial_that_is_stuck_lets_the_others_pass(sweep, store, forked_courier):
    write_trial(sweep, 0)
    courier.deliver(sweep, store)
    artifacts = client(store).get_run(run_id_of(trial_of(sweep, 0))).info.artifact_uri.removeprefix("file://")
    Path(artifacts).mkdir(parents=True, exist_ok=True)
    (Path(artifacts) / "docs").write_text("where a folder should be")
    (trial_of(sweep, 0) / "notes.txt").write_text("hello")
    with Outbox(trial_of(sweep, 0)) as outbox:
        outbox.artifact("notes.txt", "docs")
    write_trial(sweep, 1)
    handle = courier.start(sweep, store, notify=lambda line: None)
    report = handle.finish()
    assert (report.trials, report.delivered) == ({"0000": 1, "0001": 0}, False)
    assert history(trial_of(sweep, 1), store) == expected(1)
    (Path(artifacts) / "docs").unlink()
    assert courier.deliver(sweep).delivered


def test_sync_delivers_a_sweep_that_no_server_has_seen(sweep, store, capsys, forked_courier):
    from sisr.pipelines.sync import main

    said: list[str] = []
    handle = courier.start(sweep, "http://127.0.0.1:9", notify=said.append)
    write_trial(sweep, 0)
    write_trial(sweep, 1)
    end(sweep)
    report = handle.finish(20)
    assert (report.delivered, report.pending, report.trials) == (False, 20, {"0000": 7, "0001": 7})
    assert f"sisr sync {sweep}" in report.message
    assert len(said) == 1
    with Outbox(sweep.with_name("alone")) as outbox:
        outbox.status("FINISHED")
    main(run=None, runs=sweep.parent, tracking_uri=store, experiment=None, json=False)
    assert "hunt and 2 trials" in capsys.readouterr().out
    main(run=["hunt", "hunt/trials/0001"], runs=sweep.parent, tracking_uri=None, experiment=None, json=True)
    everything = {"run": "hunt", "delivered": True, "pending": 0, "message": "", "trials": {"0000": 0, "0001": 0}}
    assert json.loads(capsys.readouterr().out) == {"runs": [everything]}
    assert sorted(children(sweep, store)) == ["hunt/0000", "hunt/0001"]
    assert [history(trial_of(sweep, n), store) for n in (0, 1)] == [expected(0), expected(1)]


def test_a_server_that_is_away_has_received_nothing_of_a_sweep_whatever_another_one_has(sweep, store):
    write_trial(sweep, 0)
    assert courier.deliver(sweep, store).delivered
    report = courier.deliver(sweep, "http://127.0.0.1:9")
    assert (report.delivered, report.pending, report.trials) == (False, 10, {"0000": 7})
    address.write(sweep, address.Address("http://me:secret@host", "sisr"))
    with pytest.raises(TrackingError, match="--tracking-uri"):
        address.decide(trial_of(sweep, 0))


def seconds_used(process: psutil.Process) -> float:
    """CPU time of five seconds."""
    before = process.cpu_times()
    time.sleep(5)
    now = process.cpu_times()
    return now.user + now.system - before.user - before.system


@pytest.mark.slow
def test_sixty_trials_take_no_more_memory_and_files_than_one(sweep, store, record_property, forked_courier):
    write_trial(sweep, 0, range(200))
    handle = courier.start(sweep, store)
    wait_for(lambda: courier.standing(sweep).pending == 0)
    process = psutil.Process(handle.pid)
    before, files = process.memory_info().rss, process.num_fds()
    for number in range(1, 61):
        write_trial(sweep, number, range(200))
    wait_for(lambda: courier.standing(sweep).pending == 0)
    grown = process.memory_info().rss - before
    record_property("rss_mb", [round(before / 1e6, 1), round(grown / 1e6, 1)])
    assert grown < 25e6
    assert process.num_fds() <= files + 2
    assert any(seconds_used(process) < 0.5 for _ in range(3))
    end(sweep)
    assert handle.finish().delivered
    assert len(children(sweep, store)) == 61
    assert all(history(trial_of(sweep, n), store) == expected(n, range(200)) for n in (0, 30, 60))


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_when_the_server_comes_late_dies_and_comes_back(sweep, tmp_path, forked_courier):
    said: list[str] = []
    with socket.socket() as reserved:  # nobody listens, and nobody else gets the port
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        uri, database = f"http://127.0.0.1:{port}", new_database(tmp_path)
        handle = courier.start(sweep, uri, notify=said.append)
        write_trial(sweep, 0)
        wait_for(lambda: said)
    server = Server(database, port, tmp_path / "server.log")
    server.wait()
    wait_for(lambda: courier.standing(sweep).pending == 0)
    server.kill()
    write_trial(sweep, 0, range(3, 6))
    write_trial(sweep, 1)
    write_picture(trial_of(sweep, 0))
    wait_for(lambda: len(said) > 2)
    write_trial(sweep, 2)
    write_model(trial_of(sweep, 2))
    server = Server(database, port, tmp_path / "server.log")
    server.wait()
    end(sweep)
    try:
        assert handle.finish().delivered
        assert sorted(children(sweep, uri)) == ["hunt/0000", "hunt/0001", "hunt/0002"]
        assert len(every_run(uri)) == 4
        assert history(trial_of(sweep, 0), uri) == expected(0, range(6))
        assert [history(trial_of(sweep, n), uri) for n in (1, 2)] == [expected(1), expected(2)]
        assert len(client(uri).list_artifacts(run_id_of(trial_of(sweep, 0)), "images")) == 2
        assert weights_of(trial_of(sweep, 2), uri) == [b"weights"] * 2
        assert client(uri).get_run(run_id_of(sweep)).info.status == "FINISHED"
    finally:
        server.stop()
    assert [("buffering" in line, "answers again" in line) for line in said] == [(True, False), (False, True)] * 2
    assert (sweep / FILE).is_file()


def write_picture(folder):
    Image.new("RGB", (300, 100), (9, 200, 9)).save(folder / "a.png")
    with Outbox(folder) as outbox:
        outbox.image(5, "val", "a.png")


def write_model(folder):
    (folder / "model").mkdir()
    (folder / "model" / "generator.safetensors").write_bytes(b"weights")
    (folder / "model" / "config.json").write_text("{}")
    with Outbox(folder) as outbox:
        outbox.model("model")


def weights_of(folder, uri):
    """Return the weights of a run's model by either of its names in MLflow."""
    from sisr.tracking.registry import download_model

    run = client(uri).get_run(run_id_of(folder))
    places = f"runs:/{run.info.run_id}", f"models:/{run.outputs.model_outputs[0].model_id}"
    return [(download_model(place, tracking_uri=uri) / "generator.safetensors").read_bytes() for place in places]
