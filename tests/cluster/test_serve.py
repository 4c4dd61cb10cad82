"""`sisr serve` as its users see it: a real Ray Serve, real sockets, a real registry, real signals."""

import contextlib
import http.client
import io
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from sisr.inference.enlarge import enlarge
from sisr.models.model import load_model
from sisr.terminal import cli
from sisr.tracking import courier
from tiny_model import save

WAIT_S = 300.0  # for anything that happens in seconds on a quiet machine
PAUSE_S = 0.05  # of a client between two pictures


def register(runs: Path, folder: Path) -> str:
    """Make the model in a folder the champion, as `sisr register` does after its gate; return the version."""
    from sisr.tracking import address, champion, registry, selection

    address.export()
    server = address.default_uri(runs)
    with selection.asking(server) as client:
        place = client.get_experiment_by_name("served")
        number = place.experiment_id if place else client.create_experiment("served", address.artifact_location(server))
        run = client.create_run(number)
        model_id = registry.log_generator(client, run.info.run_id, folder, folder.name)
        before = champion.holder(client, "tiny")
        entry = champion.Entry("tiny", model_id, run.info.run_id, "", {})
        version = champion.promote(client, entry, before and str(before.version))
    assert version is not None
    return str(version.version)


class Lines:
    """What a process prints, line by line, as it comes."""

    def __init__(self, stream: Any) -> None:
        self.seen: list[str] = []
        self._lines: queue.Queue[str] = queue.Queue()
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream: Any) -> None:
        for line in stream:
            self.seen.append(line)
            self._lines.put(line)
        self._lines.put("")

    def join(self) -> None:
        """Wait until the process, and all that it has started, have ended."""
        self._thread.join(WAIT_S)

    def await_(self, text: str) -> str:
        """Return the next line with this text in it."""
        while line := self._lines.get(timeout=WAIT_S):
            if text in line:
                return line
        raise AssertionError(f"ended without '{text}': {''.join(self.seen)}")


@dataclass(frozen=True)
class Service:
    """A running `sisr serve`."""

    process: "subprocess.Popen[str]"
    lines: Lines
    port: int
    runs: Path
    first: Path  # folder of the model that it began with

    def ask(self, method: str, target: str, body: Any = None, **options: Any) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        try:
            connection.request(method, target, body, **options)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def upscale(self, body: Any, **options: Any) -> tuple[int, dict[str, str], bytes]:
        return self.ask("POST", "/upscale", body, **options)


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "sisr.pipelines.serve", *words]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> Iterator[Service]:
    """Serve models:/tiny@champion, version 1."""
    folder = tmp_path_factory.mktemp("serve")
    runs = folder / "runs"
    runs.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SISR_CACHE", str(session_cache))
        first = save(folder / "first", 0)
        assert register(runs, first) == "1"
        words = ["models:/tiny@champion", "--runs", str(runs), "--port", str(free_port()), "--follow-every", "0.5"]
        words += ["--threads", "1", "--queue", "16"]
        piped: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with subprocess.Popen(command(*words), cwd=folder, start_new_session=True, **piped) as process:
            found = Service(process, Lines(process.stdout), int(words[4]), runs, first)
            try:
                assert found.lines.await_("http://").startswith(f"http://127.0.0.1:{found.port}  serves tiny version 1")
                yield found
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGTERM)
                found.lines.join()


def png(width: int, height: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


pytestmark = [pytest.mark.mlflow]


@pytest.mark.ray
@pytest.mark.slow
def test_a_picture_comes_back_as_upscale_makes_it(service, tmp_path):
    (tmp_path / "in.png").write_bytes(png(21, 13))
    enlarge(load_model(service.first).generator, tmp_path / "in.png", tmp_path / "out.png")
    status, headers, body = service.upscale(png(21, 13))
    assert (status, headers["content-type"], headers["sisr-version"]) == (200, "image/png", "1")
    expected, found = (np.asarray(Image.open(f)).astype(int) for f in (tmp_path / "out.png", io.BytesIO(body)))
    assert np.abs(expected - found).max() <= 1  # one thread here, perhaps several there


@pytest.mark.ray
@pytest.mark.slow
def test_only_this_machine_can_reach_the_service_and_ray_has_no_dashboard(service):
    children = psutil.Process(service.process.pid).children(recursive=True)
    listening = [c.laddr for p in children for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert {place.ip for place in listening if place.port == service.port} == {"127.0.0.1"}
    assert not [word for process in children for word in process.cmdline() if "dashboard/dashboard.py" in word]


@cache
def eight_k() -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((7680, 4320)).save(file, "JPEG")
    return file.getvalue()


@cache
def animation() -> bytes:
    file = io.BytesIO()
    Image.new("P", (40, 40)).save(file, "GIF", save_all=True, append_images=[Image.new("P", (40, 40), 1)])
    return file.getvalue()


@cache
def bomb() -> bytes:
    file = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(file, "PNG")
    return file.getvalue()


def endless() -> Iterator[bytes]:
    for _ in range(320):
        yield bytes(2**16)


HOSTILE: dict[str, tuple[Callable[[], Any], int]] = {
    "20 MB, announced": (lambda: bytes(20_000_000), 413),
    "20 MB, in chunks": (endless, 413),
    "a decompression bomb": (bomb, 413),
    "an 8K photo": (eight_k, 413),
    "an animated GIF": (animation, 415),
    "a text": (lambda: b"hello", 415),
    "half a picture": (lambda: png(50, 50)[:3000], 422),
    "nothing": (lambda: b"", 422),
    "one pixel": (lambda: png(1, 1), 200),
}


@pytest.mark.ray
@pytest.mark.slow
def test_hostile_requests_get_their_codes_and_the_service_stays_healthy_and_small(service):
    processes = [p for p in psutil.Process(service.process.pid).children(recursive=True) if "ray::" in p.name()]
    before = sum(process.memory_info().rss for process in processes)
    for name, (make, status) in HOSTILE.items():
        answers = [service.upscale(make()) for _ in range(3)]
        assert [answer[0] for answer in answers] == [status] * 3, (name, answers[0])
        if status != 200:
            assert set(json.loads(answers[0][2])) == {"error", "detail", "limit"}
        assert service.ask("GET", "/health")[0] == 200
    assert sum(process.memory_info().rss for process in processes) - before < 300e6
    assert service.upscale(png(9, 9))[0] == 200


@pytest.mark.ray
@pytest.mark.slow
def test_120_large_uploads_at_once_take_little_memory(service):
    processes = [p for p in psutil.Process(service.process.pid).children(recursive=True) if "ray::" in p.name()]
    before = sum(map(private_bytes, processes))
    statuses: list[int] = []
    most, body = 0, bytes(10_000_000)

    def post() -> None:
        statuses.append(service.upscale(body)[0])

    threads = [threading.Thread(target=post) for _ in range(120)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        most = max(most, sum(map(private_bytes, processes)))
        time.sleep(0.1)
    assert set(statuses) <= {415, 503}  # no picture, or one too many
    assert most - before < 500e6


def private_bytes(process: psutil.Process) -> int:
    """Memory of a process without Ray's object store, which all of them have mapped."""
    found = process.memory_info()
    return found.rss - found.shared


@pytest.mark.ray
@pytest.mark.slow
def test_a_foreign_name_is_refused_and_head_is_answered(service):
    assert service.ask("GET", "/", headers={"Host": "evil.example"})[0] == 403
    assert service.upscale(png(9, 9), headers={"Origin": "https://evil.example"})[0] == 403
    status, headers, body = service.ask("HEAD", "/docs")
    assert (status, headers["content-type"], body) == (200, "text/html; charset=utf-8", b"")


class Load:
    """Several clients that post one picture after another."""

    def __init__(self, service: Service, clients: int = 6) -> None:
        self.answers: list[tuple[int, str]] = []  # status, version
        self._service, self._done = service, threading.Event()
        self._threads = [threading.Thread(target=self._post) for _ in range(clients)]

    def _post(self) -> None:
        picture = png(24, 24)
        while not self._done.is_set():
            status, headers, _ = self._service.upscale(picture)
            self.answers.append((status, headers.get("sisr-version", "")))
            time.sleep(PAUSE_S)

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()


@pytest.mark.ray
@pytest.mark.slow
def test_a_new_champion_takes_over_under_load_without_a_lost_request_and_a_broken_one_does_not(service, tmp_path):
    with Load(service) as load:
        assert register(service.runs, save(tmp_path / "second", 1)) == "2"
        service.lines.await_("serves tiny version 2 from now on")
        assert register(service.runs, save(tmp_path / "broken", 0, float("nan"))) == "3"
        line = service.lines.await_("models:/tiny/3 is not served")
        assert "not finite" in line
        assert "version 2 goes on" in line
        count = len(load.answers)
        while len(load.answers) < count + 20:
            time.sleep(0.05)
    assert {status for status, _ in load.answers} == {200}
    versions = [version for _, version in load.answers]
    assert set(versions) == {"1", "2"}
    assert set(versions[-6:]) == {"2"}


@pytest.mark.ray
@pytest.mark.slow
def test_a_replica_that_was_killed_comes_back_with_the_present_model(service):
    replica = next(
        p
        for p in psutil.Process(service.process.pid).children(recursive=True)
        if "ServeReplica" in " ".join(p.cmdline())
    )
    replica.kill()
    deadline = time.monotonic() + WAIT_S
    status, headers = 0, {}
    while status != 200 and time.monotonic() < deadline:
        with contextlib.suppress(http.client.RemoteDisconnected):  # handed to the one that has died
            status, headers, _ = service.upscale(png(9, 9))
    assert (status, headers["sisr-version"]) == (200, "2")


@pytest.mark.ray
@pytest.mark.slow
def test_ctrl_c_ends_it_and_leaves_no_process(service):
    children = psutil.Process(service.process.pid).children(recursive=True)
    assert len(children) > 5
    os.killpg(service.process.pid, signal.SIGINT)  # what a terminal does: to all processes in front of it
    assert service.process.wait(WAIT_S) == 0
    _, alive = psutil.wait_procs(children, timeout=WAIT_S)
    assert alive == []
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", service.port)) != 0


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["models:/none@champion"], 4, "no models:/none@champion"),
        (["nothing"], 4, "no model 'nothing'"),
        (["bicubic"], 4, "bicubic is not a network: name a run"),
        (["models:/none@champion", "--tracking-uri", "http://127.0.0.1:9"], 69, "127.0.0.1:9"),
        (["nothing", "--host", "192.0.2.1"], 2, "can't listen at 192.0.2.1"),
    ],
)
def test_what_can_not_be_served_is_said_before_anything_starts(tmp_path, capsys, monkeypatch, words, code, reason):
    from sisr.cluster import connection

    (tmp_path / "runs").mkdir()
    monkeypatch.setattr(connection, "connect", lambda *_: pytest.fail("something starts"))
    with courier.exported({}), pytest.raises(SystemExit) as end:
        cli.main(["serve", *words])
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (code, "")
    assert reason in err


def test_what_ray_prints_of_the_end_of_its_own_processes_is_not_shown(monkeypatch, capsys):
    """Ray's line comes from its raylet, on stdout, and only now and then: here something else prints it."""
    from sisr.cluster import connection, serve

    def shutdown() -> None:
        for stream in (sys.stdout, sys.stderr):
            print("(raylet) Task ServeController.graceful_shutdown failed.", file=stream)

    monkeypatch.setattr(connection, "shutdown", shutdown)
    serve.stop()
    assert capsys.readouterr() == ("", "")


def test_a_port_in_use_is_said_before_anything_starts(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(command("x", "--port", port), capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == 2
    assert f"port {port} on 127.0.0.1 is in use" in done.stderr


@pytest.mark.slow
def test_mlflow_s_own_server_gives_the_same_pixels(tmp_path, session_cache):
    from sisr.tracking import address
    from sisr.tracking.courier import environment

    (tmp_path / "runs").mkdir()
    folder, port = save(tmp_path / "model"), free_port()
    register(tmp_path / "runs", folder)
    words = ["models", "serve", "-m", "models:/tiny@champion", "--env-manager", "local", "--port", str(port)]
    variables = environment(address.default_uri(tmp_path / "runs"))
    # It runs a shell that runs uvicorn, as in an environment that is activated.
    variables["PATH"] = f"{sysconfig.get_path('scripts')}:{variables['PATH']}"
    piped: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    mlflow = [sys.executable, "-m", "mlflow", *words]
    with subprocess.Popen(mlflow, env=variables, start_new_session=True, **piped) as process:
        lines = Lines(process.stdout)
        try:
            lines.await_("running on http")
            request = json.dumps({"inputs": [b64encode(png(21, 13)).decode()]})
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
            connection.request("POST", "/invocations", request, {"Content-Type": "application/json"})
            found = json.loads(connection.getresponse().read())["predictions"][0]
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            lines.join()
    (tmp_path / "in.png").write_bytes(png(21, 13))
    enlarge(load_model(folder).generator, tmp_path / "in.png", tmp_path / "out.png")
    expected, given = (
        np.asarray(Image.open(f)).astype(int) for f in (tmp_path / "out.png", io.BytesIO(b64decode(found)))
    )
    assert np.abs(expected - given).max() <= 1
