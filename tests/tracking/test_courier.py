"""Delivery against a real SQLite store and a real `mlflow server` that is killed and started again."""

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest
from PIL import Image

from sisr.errors import TrackingError
from sisr.tracking import address, courier, delivery, progress
from sisr.tracking.outbox import FILE, Outbox

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
    folder = tmp_path_factory.mktemp("store with blank")
    return address.default_uri(folder)


@pytest.fixture
def run_dir(tmp_path):
    return tmp_path / "runs" / "first"


def run_id_of(run_dir: Path) -> str:
    place = address.read(run_dir)
    assert place is not None
    assert place.run_id is not None
    return place.run_id


def client(uri):
    from mlflow import MlflowClient

    return MlflowClient(uri)


def received(run_dir, uri):
    """Return the MLflow run that belongs to a run's folder."""
    return client(uri).get_run(run_id_of(run_dir))


def history(run_dir, uri, name="loss"):
    points = client(uri).get_metric_history(run_id_of(run_dir), name)
    return sorted((p.step, p.value) for p in points)


def images(run_dir, uri):
    return sorted(f.path for f in client(uri).list_artifacts(run_id_of(run_dir), "images"))


def record(outbox, steps, name="loss"):
    for step in steps:
        outbox.metrics(step, {name: step / 4})


def picture(run_dir, name="samples/a.png"):
    (run_dir / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (300, 100), (9, 200, 9)).save(run_dir / name)
    return name


def test_everything_recorded_arrives(run_dir, store):
    with Outbox(run_dir) as outbox:
        outbox.params({"steps": 3000, "text": "x" * 7000} | {f"p{i}": i for i in range(150)})
        outbox.tags({"colour": "green"})
        outbox.tags({"colour": "blue"})
        outbox.status("RUNNING")
        record(outbox, range(2500))
        outbox.image(7, "val/grid", picture(run_dir))
        (run_dir / "notes.txt").write_text("hello")
        outbox.artifact("notes.txt", "docs")
        outbox.status("FINISHED")
    assert courier.deliver(run_dir, store).delivered
    run = received(run_dir, store)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "first"
    assert run.data.params["steps"] == "3000"
    assert len(run.data.params) == 152
    assert run.data.tags["colour"] == "blue"
    assert history(run_dir, store) == [(i, i / 4) for i in range(2500)]
    assert [f.path for f in client(store).list_artifacts(run.info.run_id, "docs")] == ["docs/notes.txt"]


def test_neighbouring_files_and_pictures_all_arrive(run_dir, store):
    with Outbox(run_dir) as outbox:
        for name in ("a.png", "b.png"):
            outbox.image(0, f"place/{name[0]}", picture(run_dir, name))
        for name in ("a.png", "b.png"):
            outbox.artifact(name, "docs")
    assert courier.deliver(run_dir, store).delivered
    files = client(store).list_artifacts(run_id_of(run_dir), "docs")
    assert sorted(f.path for f in files) == ["docs/a.png", "docs/b.png"]
    assert len([path for path in images(run_dir, store) if path.endswith(".png")]) == 2


def test_image_names_are_what_mlflow_itself_would_write(run_dir, store):
    with Outbox(run_dir) as outbox:
        outbox.image(7, "val/grid", picture(run_dir))
    courier.deliver(run_dir, store)
    speaker, run_id = client(store), run_id_of(run_dir)
    speaker.log_image(run_id, Image.new("RGB", (30, 10)), key="other/key", step=7)
    forms = {re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "UUID", re.sub(r"\d{13}", "TIME", f)) for f in images(run_dir, store)}
    assert forms == {
        f"images/{key}+step+7+timestamp+TIME+UUID{end}"
        for key in ("val~grid", "other~key")
        for end in (".png", "+compressed.webp")
    }
    assert speaker.get_run(run_id).data.tags["mlflow.loggedImages"] == "True"


def test_delivering_again_changes_nothing(run_dir, store):
    with Outbox(run_dir) as outbox:
        record(outbox, range(50))
        outbox.image(7, "val", picture(run_dir))
    courier.deliver(run_dir, store)
    before = history(run_dir, store), images(run_dir, store)
    (run_dir / progress.FILE).unlink()
    (run_dir / address.FILE).unlink()
    assert courier.deliver(run_dir, store).delivered
    assert (history(run_dir, store), images(run_dir, store)) == before


def test_a_resumed_run_continues_the_same_mlflow_run(run_dir, store, forked_courier):
    with Outbox(run_dir) as outbox:
        outbox.params({"steps": 5})
        outbox.status("RUNNING")
        record(outbox, range(6))
        outbox.status("KILLED")
    courier.deliver(run_dir, store)
    first = run_id_of(run_dir)
    with Outbox(run_dir) as outbox:
        outbox.params({"steps": 9})
        outbox.status("RUNNING")
        record(outbox, range(4, 10))
    handle = courier.start(run_dir)
    assert handle.finish().delivered
    run = received(run_dir, store)
    assert run.info.run_id == first
    assert (run.info.status, run.data.params["steps"], run.data.tags["resume.1.steps"]) == ("RUNNING", "5", "9")
    assert history(run_dir, store) == [(i, i / 4) for i in range(10)]


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_when_the_courier_is_killed(run_dir, store, forked_courier):
    with Outbox(run_dir) as outbox:
        record(outbox, range(8_000))
        outbox.image(7, "val", picture(run_dir))
        handle = courier.start(run_dir, store)
        wait_for(lambda: (address.read(run_dir) or address.Address("", "")).run_id)
        wait_for(lambda: progress.read(run_dir, run_id_of(run_dir)).offset > 0)
        killed = handle.pid
        os.kill(killed, signal.SIGKILL)
        record(outbox, range(8_000, 8_100))
    assert handle.finish().delivered
    assert handle.pid != killed
    assert history(run_dir, store) == [(i, i / 4) for i in range(8_100)]
    assert len(images(run_dir, store)) == 2


def test_a_record_that_can_not_be_delivered_does_not_hold_up_the_rest(run_dir, store):
    with Outbox(run_dir) as outbox:
        outbox.image(1, "val", "samples/gone.png")
        (run_dir / "broken.png").write_text("no picture")
        outbox.image(2, "val", "broken.png")
        outbox.model("nowhere")
        record(outbox, [3])
    assert courier.deliver(run_dir, store).delivered
    assert history(run_dir, store) == [(3, 0.75)]
    assert progress.read(run_dir, run_id_of(run_dir)).refused == 3


def test_a_record_that_breaks_the_server_is_set_aside_once_others_are_taken(run_dir, store, monkeypatch):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    def breaks(*_, metrics=(), **__):
        raise MlflowException("boom")  # as a 500 is raised

    def breaks_over_poison(self, run_id, metrics=(), **others):
        return breaks() if any(m.key == "poison" for m in metrics) else log_batch(self, run_id, metrics, **others)

    log_batch = MlflowClient.log_batch
    with Outbox(run_dir) as outbox:
        record(outbox, [0])
        outbox.metrics(1, {"poison": 1.0})
        record(outbox, [2])
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", breaks)
        patch.setattr(MlflowClient, "set_tag", breaks)
        assert {courier.deliver(run_dir, store).delivered for _ in range(delivery.TRIES + 2)} == {False}
    (run_dir / progress.FILE).unlink()
    monkeypatch.setattr(MlflowClient, "log_batch", breaks_over_poison)
    reports = [courier.deliver(run_dir, store) for _ in range(delivery.TRIES + 1)]
    assert [report.delivered for report in reports] == [False] * delivery.TRIES + [True]
    assert history(run_dir, store) == [(0, 0.0), (2, 0.5)]
    assert progress.read(run_dir, run_id_of(run_dir)).refused == 1


def test_a_torn_line_in_the_middle_is_passed_over(run_dir, store):
    with Outbox(run_dir) as outbox:
        record(outbox, range(3))
    with (run_dir / FILE).open("ab") as file:
        file.write(b'{"n":9,"op":"metr')
    with Outbox(run_dir) as outbox:
        record(outbox, range(3, 6))
    assert courier.deliver(run_dir, store).delivered
    assert history(run_dir, store) == [(i, i / 4) for i in range(6)]


def test_a_run_deleted_in_mlflow_is_said_and_nothing_is_dropped(run_dir, store):
    with Outbox(run_dir) as outbox:
        record(outbox, range(3))
    courier.deliver(run_dir, store)
    client(store).delete_run(run_id_of(run_dir))
    with Outbox(run_dir) as outbox:
        record(outbox, range(3, 6))
    with pytest.raises(TrackingError, match="was deleted"):
        courier.deliver(run_dir, store)
    assert courier.standing(run_dir).pending == 4


def test_planted_secrets_reach_neither_the_folder_nor_the_database(run_dir, store, forked_courier):
    with Outbox(run_dir) as outbox:
        outbox.params({"api_token": "plant-1", "tokenizer": "bpe", "author": "me"})
        outbox.tags({"data": "https://me:plant-2@host/d", "error": "401 for Bearer plant-3-abcdefghijkl"})
    handle = courier.start(run_dir, store)
    assert handle.finish().delivered
    files = [p for p in run_dir.rglob("*") if p.is_file()]
    dump = "\n".join(sqlite3.connect(store.removeprefix("sqlite:///")).iterdump())
    assert len(files) >= 3
    assert not [p for p in files if b"plant" in p.read_bytes()]
    assert "plant" not in dump
    assert received(run_dir, store).data.params == {"api_token": "[redacted]", "tokenizer": "bpe", "author": "me"}


def test_a_password_in_the_server_address_is_neither_kept_nor_on_the_command_line(run_dir):
    Outbox(run_dir).close()
    handle = courier.start(run_dir, "http://me:plant-4@127.0.0.1:9/", notify=lambda line: None)
    command = Path(f"/proc/{handle.pid}/cmdline").read_text()
    assert not handle.finish(10).delivered
    assert "plant" not in command
    assert not [p for p in run_dir.rglob("*") if p.is_file() and b"plant" in p.read_bytes()]
    with pytest.raises(TrackingError, match="--tracking-uri"):
        courier.deliver(run_dir)


def test_a_run_whose_driver_was_killed_is_marked_killed(run_dir, store):
    code = (
        "import sys, pathlib; from sisr.tracking import courier; from sisr.tracking.outbox import Outbox\n"
        "d = pathlib.Path(sys.argv[1]); o = Outbox(d); o.status('RUNNING'); h = courier.start(d, sys.argv[2])\n"
        "[o.metrics(i, {'loss': i / 4}) for i in range(100)]; print(h.pid, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(run_dir), store]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as driver:
        assert driver.stdout is not None
        pid = int(driver.stdout.readline())
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    assert history(run_dir, store) == [(i, i / 4) for i in range(100)]
    assert received(run_dir, store).info.status == "KILLED"


def test_the_trainer_waits_neither_for_the_courier_nor_for_a_server_that_never_answers(run_dir, tmp_path, monkeypatch):
    asleep = tmp_path / "asleep"  # a Python that begins to run when it is told to
    asleep.write_text(f'#!/bin/sh\nkill -STOP $$\nexec {sys.executable} "$@"\n')
    asleep.chmod(0o755)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        said: list[str] = []
        with Outbox(run_dir) as outbox, monkeypatch.context() as patch:
            patch.setattr(sys, "executable", str(asleep))
            handle = courier.start(run_dir, f"http://127.0.0.1:{silent.getsockname()[1]}", notify=said.append)
            record(outbox, range(1000))
            process = psutil.Process(handle.pid)
            wait_for(lambda: process.status() == psutil.STATUS_STOPPED)
            process.resume()
            wait_for(lambda: said)
        report = handle.finish(3)
    assert not process.is_running()
    assert (report.delivered, report.pending) == (False, 1001)
    assert "sisr sync" in report.message
    assert "buffering in" in said[0]


def test_a_wrong_server_that_refuses_everything_loses_nothing(run_dir):
    class Wrong(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        do_POST = do_PATCH = do_GET

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Wrong) as wrong:
        threading.Thread(target=wrong.serve_forever, daemon=True).start()
        with Outbox(run_dir) as outbox:
            record(outbox, range(3))
        report = courier.deliver(run_dir, f"http://127.0.0.1:{wrong.server_port}")
        wrong.shutdown()
    assert (report.delivered, report.pending) == (False, 4)
    assert "404" in report.message or "NOT_FOUND" in report.message


def test_a_required_server_that_is_away_is_an_error():
    with pytest.raises(TrackingError, match="can't be used") as caught:
        courier.require(address.Address("http://127.0.0.1:9", "sisr"))
    assert caught.value.exit_code == 69


def test_sync_delivers_later_and_says_how_it_went(run_dir, store, capsys):
    from sisr.pipelines.sync import main

    with Outbox(run_dir) as outbox:
        record(outbox, range(5))
    with pytest.raises(TrackingError, match="not everything"):
        main(run=None, runs=run_dir.parent, tracking_uri="http://127.0.0.1:9", experiment=None, json=True)
    assert json.loads(capsys.readouterr().out)["runs"][0]["pending"] == 6
    main(run=["first"], runs=run_dir.parent, tracking_uri=store, experiment="other", json=True)
    assert json.loads(capsys.readouterr().out)["runs"][0] == {
        "run": "first",
        "delivered": True,
        "pending": 0,
        "message": "",
    }
    assert history(run_dir, store) == [(i, i / 4) for i in range(5)]
    assert client(store).get_experiment(received(run_dir, store).info.experiment_id).name == "other"


def test_a_server_that_is_away_has_received_nothing_whatever_another_one_has(run_dir, store):
    with Outbox(run_dir) as outbox:
        record(outbox, range(5))
    assert courier.deliver(run_dir, store).delivered
    report = courier.deliver(run_dir, "http://127.0.0.1:9")
    assert (report.delivered, report.pending) == (False, 6)
    assert report.message == "http://127.0.0.1:9 does not take the records: Connection refused"
    assert courier.deliver(run_dir).delivered


def test_each_run_is_delivered_to_its_own_server(run_dir, store):
    second = run_dir.with_name("second")
    for folder, uri in ((run_dir, store), (second, "http://127.0.0.1:9")):
        with Outbox(folder) as outbox:
            record(outbox, range(2))
        address.write(folder, address.Address(uri, "sisr"))
    assert courier.deliver(run_dir).delivered
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert not courier.deliver(second).delivered


def wait_for(condition, timeout_s=240):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.2)


def test_a_run_goes_on_where_its_folder_was_moved_to(tmp_path):
    before, after = tmp_path / "a" / "runs", tmp_path / "b" / "runs"
    with Outbox(before / "first") as outbox:
        record(outbox, range(3))
        outbox.image(1, "val", picture(before / "first"))
    assert courier.deliver(before / "first").delivered
    first = run_id_of(before / "first")
    (tmp_path / "a").rename(tmp_path / "b")
    with Outbox(after / "first") as outbox:
        record(outbox, range(3, 6))
        outbox.image(4, "val", picture(after / "first"))
    assert courier.deliver(after / "first").delivered
    uri = address.default_uri(after)
    assert run_id_of(after / "first") == first
    assert history(after / "first", uri) == [(i, i / 4) for i in range(6)]
    assert len(images(after / "first", uri)) == 4
    assert not (tmp_path / "a").exists()


def test_a_copied_folder_of_runs_is_independent(tmp_path):
    runs, copy = tmp_path / "a" / "runs", tmp_path / "b" / "runs"
    with Outbox(runs / "first") as outbox:
        outbox.tags({"sisr.folder": str(runs / "first")})
        outbox.image(1, "val", picture(runs / "first"))
    assert courier.deliver(runs / "first").delivered
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    before = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "a").rglob("*"))
    with Outbox(copy / "first") as outbox:
        record(outbox, range(3))
        outbox.image(4, "val", picture(copy / "first"))
    assert courier.deliver(copy / "first").delivered
    assert len(images(copy / "first", address.default_uri(copy))) == 4
    assert received(copy / "first", address.default_uri(copy)).data.tags["sisr.folder"] == str(copy / "first")
    assert sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "a").rglob("*")) == before


def test_what_a_foreign_folder_names_outside_itself_is_set_aside(run_dir, store, tmp_path):
    (tmp_path / "private.txt").write_text("mine")
    with Outbox(run_dir) as outbox:
        record(outbox, [0])
    rows: list[dict[str, object]] = [
        {"op": "artifact", "path": "../../private.txt", "to": ""},
        {"op": "artifact", "path": str(tmp_path / "private.txt"), "to": ""},
        {"op": "artifact", "path": "link.txt", "to": ""},
        {"op": "artifact", "path": "outbox.jsonl", "to": "../../../up"},
        {"op": "image", "path": "../../private.txt", "key": "val", "step": 0},
        {"op": "model", "path": "../.."},
        {"op": "metrics", "step": 1, "values": {"loss": "not a number"}},
        {"op": "metrics", "step": 1},
        {"op": ["metrics"]},
    ]
    (run_dir / "link.txt").symlink_to(tmp_path / "private.txt")
    with (run_dir / FILE).open("a") as file:
        file.writelines(json.dumps({"n": n, "t": 1_700_000_000_000} | row) + "\n" for n, row in enumerate(rows, 2))
        file.write(json.dumps({"t": 1, "op": "tags", "values": {}}) + "\n")  # it lacks its number
    with Outbox(run_dir) as outbox:
        record(outbox, [2])
    report = courier.deliver(run_dir, store)
    assert report.delivered
    assert "set aside in" in report.message
    set_aside = [json.loads(line)["record"]["n"] for line in (run_dir / delivery.REFUSED).read_text().splitlines()]
    assert set_aside == [2, 3, 4, 5, 6, 7, 8]
    assert history(run_dir, store) == [(0, 0.0), (2, 0.5)]
    assert client(store).list_artifacts(run_id_of(run_dir)) == []


def test_a_server_that_a_foreign_folder_names_hears_nothing(run_dir, capsys, monkeypatch):
    from sisr.pipelines.sync import main

    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "plant-5")
    with socket.socket() as theirs:
        theirs.bind(("127.0.0.1", 0))
        theirs.listen()
        theirs.setblocking(False)
        uri = f"http://127.0.0.1:{theirs.getsockname()[1]}"
        with Outbox(run_dir) as outbox:
            record(outbox, [0])
        (run_dir / address.FILE).write_text(json.dumps({"tracking_uri": uri, "experiment": "x", "run_id": None}))
        with pytest.raises(TrackingError, match="not everything"):
            main(run=[str(run_dir)], runs=run_dir.parent, tracking_uri=None, experiment=None, json=True)
        with pytest.raises(BlockingIOError):
            theirs.accept()
    assert f"say --tracking-uri {uri}" in capsys.readouterr().out


def test_an_embedded_store_that_sends_files_elsewhere_is_refused(tmp_path):
    folder = tmp_path / "theirs" / "runs" / "first"
    with Outbox(folder) as outbox:
        record(outbox, [0])
    client(address.default_uri(folder.parent)).create_experiment("sisr", (tmp_path / "mine").as_uri())
    with pytest.raises(TrackingError, match="keeps the run's files at"):
        courier.deliver(folder)
    assert not (tmp_path / "mine").exists()


def test_metrics_arrive_while_the_artifact_store_takes_no_files(run_dir, tmp_path):
    runs = run_dir.parent
    place = runs / "mlartifacts"
    runs.mkdir()
    place.write_text("no folder")
    with Outbox(run_dir) as outbox:
        outbox.params({"steps": 5})
        for step in (1, 2):
            outbox.image(step, "val", picture(run_dir))
            record(outbox, [step])
        (run_dir / "notes.txt").write_text("hello")
        outbox.artifact("notes.txt")
        outbox.status("FINISHED")
    uri = address.default_uri(runs)
    report = courier.deliver(run_dir)
    assert (report.delivered, report.pending) == (False, 3)
    assert "does not store files" in report.message
    assert history(run_dir, uri) == [(1, 0.25), (2, 0.5)]
    assert received(run_dir, uri).info.status == "FINISHED"
    place.unlink()
    assert courier.deliver(run_dir) == courier.DeliveryState(True, 0, "")
    assert len(images(run_dir, uri)) == 4
    assert "notes.txt" in [file.path for file in client(uri).list_artifacts(run_id_of(run_dir))]


def test_a_running_courier_brings_files_once_the_artifact_store_takes_them(run_dir, forked_courier):
    said: list[str] = []
    runs = run_dir.parent
    runs.mkdir()
    (runs / "mlartifacts").write_text("no folder")
    with Outbox(run_dir) as outbox:
        outbox.image(1, "val", picture(run_dir))
        record(outbox, [1])
        handle = courier.start(run_dir, notify=said.append)
        wait_for(lambda: said)
        assert "does not store files" in said[0]
        assert history(run_dir, address.default_uri(runs)) == [(1, 0.25)]
        (runs / "mlartifacts").unlink()
        wait_for(lambda: len(said) > 1)
    assert "stores files again" in said[1]
    assert handle.finish().delivered


def test_a_dead_proxy_is_named(run_dir, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with Outbox(run_dir) as outbox:
        record(outbox, [1])
    report = courier.deliver(run_dir, "http://somewhere.invalid:5000")
    assert not report.delivered
    assert "the proxy of http_proxy=http://127.0.0.1:9 can't be used" in report.message


def test_a_run_has_a_positive_duration_after_a_clock_was_set_back(run_dir, store):
    with Outbox(run_dir) as outbox:
        outbox.status("FINISHED")
    lines = (run_dir / FILE).read_text().splitlines()
    early = json.dumps(json.loads(lines[-1]) | {"t": 1_000_000_000_000})
    (run_dir / FILE).write_text("\n".join([*lines[:-1], early]) + "\n")
    courier.deliver(run_dir, store)
    info = received(run_dir, store).info
    assert info.end_time >= info.start_time


def test_secrets_of_the_settings_are_nowhere_in_mlflow(run_dir, tmp_path):
    settings = {"api_token": "plant-1-abc", "endpoint": "https://me:plant-2@host/d", "steps": 5}
    (run_dir / "model").mkdir(parents=True)
    (run_dir / "run.json").write_text(json.dumps({"run": {"config": settings}}))
    (run_dir / "model" / "generator.safetensors").write_bytes(b"weights")
    (run_dir / "model" / "config.json").write_text(json.dumps({"recipe": "x", "config": settings}))
    (run_dir / "page.html").write_text("<td>plant-1-abc</td>")
    with Outbox(run_dir) as outbox:
        outbox.params(settings)
        outbox.artifact("run.json")
        outbox.artifact("page.html")
        outbox.artifact("model", "generator")
        outbox.model("model")
    assert courier.deliver(run_dir) == courier.DeliveryState(True, 0, "")
    kept = [path for path in run_dir.parent.rglob("*") if path.is_file() and not path.is_relative_to(run_dir)]
    assert len([path for path in kept if path.name == "config.json"]) == 2
    assert not [path for path in kept if b"plant" in path.read_bytes()]
    assert "plant-1-abc" in (run_dir / "run.json").read_text()


def test_asking_whether_a_server_answers_leaves_nothing_there(store):
    from sisr.tracking import service

    with courier.exported(courier.environment(store)):
        assert service.check(address.Address(store, "fresh"), write=False) == 0
    assert client(store).get_experiment_by_name("fresh") is None


def test_a_required_server_must_take_what_a_run_needs(tmp_path, capsys):
    from sisr.tracking import service

    def tried(place):
        """What `require` tries in a process of its own: the exit code and what is printed."""
        with courier.exported(courier.environment(place.tracking_uri)):
            return service.check(place, write=True), capsys.readouterr().out

    runs = tmp_path / "runs"
    runs.mkdir()
    place = address.Address(address.default_uri(runs), "sisr")
    assert tried(place) == (0, "")
    speaker = client(place.tracking_uri)
    experiment = speaker.get_experiment_by_name("sisr").experiment_id
    assert speaker.search_runs([experiment]) == []
    assert [path for path in (runs / "mlartifacts").rglob("*") if path.is_file()] == []
    shutil.rmtree(runs / "mlartifacts")
    (runs / "mlartifacts").write_text("no folder")
    code, why = tried(place)
    assert (code, "mlartifacts" in why) == (69, True)
    speaker.delete_experiment(experiment)
    code, why = tried(place)
    assert (code, "experiment 'sisr' was deleted" in why) == (69, True)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_user_without_name_and_home_is_known_by_number():
    """As in a container that is started with `--user 12345`."""
    program = (
        "import os; from sisr.tracking import address, mlflow_run; from pathlib import Path\n"
        "os.setuid(12345); os.environ.clear()\n"
        "print(mlflow_run.user_name(), address.decide(Path('/runs/first'), 'http://127.0.0.1:9').tracking_uri)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "uid 12345 http://127.0.0.1:9\n", done.stderr


@pytest.mark.slow
def test_a_folder_that_was_moved_before_the_courier_has_started_is_not_made_anew(tmp_path: Path, store: str) -> None:
    command = [sys.executable, "-m", courier.MODULE, str(tmp_path / "moved"), "--parent-pid", str(os.getpid())]
    environment = courier.environment(store)
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "moved").exists()
