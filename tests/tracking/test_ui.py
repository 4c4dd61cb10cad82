import json
import os
import signal
import subprocess
import sys
import urllib.request
from urllib.parse import quote

import psutil
import pytest
from PIL import Image

from sisr.errors import ConfigError
from sisr.tracking import address, courier
from sisr.tracking.outbox import Outbox
from sisr.tracking.server import free_port


def test_a_port_in_use_is_an_error_and_without_one_the_next_free_port_is_taken():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match="--port"):
            free_port(port)
        assert free_port(None, port) > port


def test_a_server_is_not_served_again(tmp_path):
    from sisr.pipelines.ui import main

    with pytest.raises(ConfigError, match="a server already"):
        main(runs=tmp_path, tracking_uri="http://127.0.0.1:5000", port=None)


def test_a_mistyped_folder_is_not_made(tmp_path):
    from sisr.pipelines.ui import main

    with pytest.raises(ConfigError, match=r"there is no folder .*nowhere: --runs names the one that holds your runs"):
        main(runs=tmp_path / "nowhere", tracking_uri=None, port=None)
    assert not (tmp_path / "nowhere").exists()


def test_a_full_disk_under_the_database_is_called_that_and_no_server_that_does_not_answer():
    from sisr.tracking import service

    full = Exception("(sqlite3.OperationalError) database or disk is full")
    assert service._trouble("sqlite:////runs/mlflow.db", full) == "the disk of /runs/mlflow.db is full"
    assert service._trouble("http://there", Exception("timed out")) == "http://there does not answer"


@pytest.mark.mlflow
@pytest.mark.slow
def test_ui_shows_runs_and_pictures_on_loopback_only_and_ctrl_c_leaves_no_process(tmp_path):
    run_dir = tmp_path / "runs" / "first"
    with Outbox(run_dir) as outbox:
        outbox.metrics(0, {"loss": 1})
        Image.new("RGB", (30, 10), (9, 200, 9)).save(run_dir / "a.png")
        outbox.image(0, "val/grid", "a.png")
    assert courier.deliver(run_dir).delivered
    command = [sys.executable, "-m", "sisr.pipelines.ui", "--runs", str(tmp_path / "runs")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as ui:
        assert ui.stdout is not None
        assert ui.stdout.readline() == "Open one of these; Ctrl-C ends it:\n"
        name, _, page = ui.stdout.readline().strip().partition(": ")
        assert name == "runs of sisr"
        url, _, view = page.partition("/#/")
        assert view.endswith("/runs?viewStateShareKey=best-first&workflowType=machine_learning")
        assert url.startswith("http://127.0.0.1:")
        try:
            children = psutil.Process(ui.pid).children(recursive=True)
            assert listening(children) == {"127.0.0.1"}
            assert not [child for child in children if "huey" in " ".join(child.cmdline())]  # runs jobs
            assert json.loads(get(f"{url}/ajax-api/3.0/mlflow/ui-telemetry"))["disable_ui_telemetry"] is True
            assert b"<title>MLflow" in get(url)
            place = address.read(run_dir)
            assert place is not None
            run_id = place.run_id
            listing = json.loads(get(f"{url}/api/2.0/mlflow/artifacts/list?run_id={run_id}&path=images"))
            picture = next(f["path"] for f in listing["files"] if f["path"].endswith(".png"))
            quoted = quote(picture, safe="")
            shown = get(f"{url}/get-artifact?path={quoted}&run_uuid={run_id}")
            assert shown == (run_dir / "a.png").read_bytes()
        finally:
            os.kill(ui.pid, signal.SIGINT)
        assert ui.wait(30) == 0
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


def get(url):
    with urllib.request.urlopen(url, timeout=120) as answer:
        return answer.read()


def listening(processes):
    found = [c for p in processes for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    return {c.laddr.ip for c in found}
