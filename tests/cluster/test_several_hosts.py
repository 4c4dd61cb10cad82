"""The whole way over several hosts, as docs/cluster.md has it, from `ray up` to `ray down`.

The hosts are network namespaces with SSH servers of their own (`hosts.py`), and hold nothing but Python's packages
(`lab.py`); the configuration is cluster.local.yaml with its placeholders filled in. The tests share one cluster and run
in the order of this file: `make test-cluster`.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import hosts
from hosts import Host
from lab import CLUSTER, HOME, PROJECT, SHARED, VENV, Lab, lab, own
from nodes import curve
from sisr.disk.run_folder import RunFolder

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1500)]

STRANGER = Path(__file__).parents[1] / "support" / "stranger.py"
NODES = ("head", "one", "two")
STEPS = 40  # enough to be disturbed in the middle
SETTINGS = {
    "batch_size": 4,
    "hr_crop": 32,
    "source_side": 64,
    "box": "null",
    "generator_features": "[8,6,4]",
    "discriminator_features": 4,
}
OPTIONS = {"evaluate_every": 5, "log_every": 1, "validation_side": 64, "perceptual": "none", "threads": 1}
TINY = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
TINY += [word for name, value in OPTIONS.items() for word in ("--option", f"{name}={value}")]
RUN = ("srez", "--data", f"{SHARED}/photos", *TINY, "--precision", "fp32")
CPUS = str(os.cpu_count())  # of each host, which sees all of this machine's: a worker of so many has one to itself
HALF = str(max(1, int(CPUS) // 2))
ALONE = ("--cpus-per-worker", CPUS)
PAIR = (*ALONE, "--workers", "2")
OURS = ("ray", "mlflow", "sisr", "python")


def wait_for(what: str, condition: Callable[[], Any], timeout_s: float = 600) -> Any:
    """Return the first true answer."""
    deadline = time.monotonic() + timeout_s
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s for {what}"
        time.sleep(0.2)
    return answer


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A cluster of three hosts, started as docs/cluster.md says."""
    if reason := hosts.missing():
        pytest.skip(reason)
    with lab(tmp_path_factory.mktemp("lab"), NODES) as made:
        rules = made.run("deploy/firewall.sh", *(node.address for node in made.nodes))
        for node in made.nodes:
            node.run("nft", "-f", "-", user="root", stdin=rules)
        made.run("sisr", "doctor", CLUSTER)
        made.run("python", "-m", "sisr.disk.code_revision")
        made.run("ray", "up", "-y", CLUSTER)
        wait_for("all hosts", lambda: is_complete(made))
        photos = made.laptop.path(HOME / "photos")
        photos.mkdir()
        for number in range(8):
            Image.effect_noise((80, 80), 30 + number).convert("RGB").save(photos / f"{number}.png")
        own(made.laptop, HOME / "photos")
        made.run("ray", "rsync-up", CLUSTER, f"{HOME}/photos/", f"{SHARED}/photos/")
        yield made


def is_complete(cluster: Lab) -> bool:
    """Whether all hosts belong to the cluster, as Ray sees it."""
    return f"{len(NODES)} local.cluster.node" in cluster.on_head("ray", "status")


@contextmanager
def started(command: Sequence[str], *, talks: bool = True) -> "Iterator[subprocess.Popen[str]]":
    """Start a command, and end it with the block if it still runs; what it says is heard unless it `talks` too much."""
    heard = subprocess.PIPE if talks else subprocess.DEVNULL  # a pipe that nobody reads stops it when it is full
    pipes = {"stdin": subprocess.PIPE, "stdout": heard, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(command, text=True, start_new_session=True, **pipes)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def status(cluster: Lab, name: str) -> dict[str, Any]:
    try:
        return dict(json.loads((cluster.shared / "runs" / name / "status.json").read_text()))
    except (OSError, ValueError):
        return {}


def checkpoints(cluster: Lab, name: str) -> list[Path]:
    return sorted((cluster.shared / "runs" / name / "checkpoints").glob("step_*/manifest.json"))


def training(cluster: Lab) -> list[Host]:
    """The hosts on which a worker of Ray Train runs."""
    return [one for one in cluster.nodes if any(line.startswith("ray::RayTrainWorker") for line in one.processes())]


ASK_MLFLOW = """
import json, sys, mlflow
client = mlflow.MlflowClient()
experiment = client.get_experiment_by_name("sisr")
found = {}
for run in client.search_runs([experiment.experiment_id]):
    wanted = f"source_run_id = '{run.info.run_id}'"
    models = client.search_logged_models([experiment.experiment_id], filter_string=wanted)
    found[run.info.run_name] = {
        "status": run.info.status,
        "step": "psnr_y" in run.data.tags.get("sisr.final", ""),
        "images": [file.path for file in client.list_artifacts(run.info.run_id, "images")],
        "models": [model.name for model in models],
        "parent": run.data.tags.get("mlflow.parentRunId"),
    }
print("found " + json.dumps(found))
"""


def in_mlflow(cluster: Lab) -> dict[str, Any]:
    """The runs in MLflow on the head by name, as the laptop sees them through its tunnel."""
    with started(cluster.command("ray", "attach", CLUSTER, "-p", "5000")):
        reach = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5000/health', timeout=5)"
        test = cluster.command("python", "-c", reach)
        wait_for("the tunnel", lambda: subprocess.run(test, capture_output=True).returncode == 0, 120)
        address = "MLFLOW_TRACKING_URI=http://127.0.0.1:5000"
        said = cluster.run("env", address, "python", "-c", ASK_MLFLOW)
    return dict(json.loads(next(line for line in said.splitlines() if line.startswith("found "))[6:]))


def test_a_run_trains_with_a_worker_on_each_of_two_hosts_and_is_seen_in_mlflow_on_the_head(cluster: Lab) -> None:
    seen: set[str] = set()
    with started(cluster.command(*cluster.submit("train", *RUN, *PAIR, "--name", "first", "--steps", "10"))) as submit:
        while submit.poll() is None:
            seen |= {host.name for host in training(cluster)} if len(seen) < 2 else set()
            time.sleep(0.5)
        said = submit.stdout.read() if submit.stdout else ""
    assert submit.returncode == 0, said
    assert len(seen) == 2, seen
    assert status(cluster, "first")["state"] == "finished"
    run = in_mlflow(cluster)["first"]
    assert (run["status"], run["step"], run["models"]) == ("FINISHED", True, ["generator"])
    assert any("samples" in path for path in run["images"]), run["images"]


def test_a_stranger_reaches_nothing_but_ssh(cluster: Lab) -> None:
    addresses = [node.address for node in cluster.nodes]
    found = json.loads(stranger(cluster, "scan", *addresses))
    assert found == {address: [22] for address in addresses}


def stranger(cluster: Lab, *words: str) -> str:
    """What the stranger's program prints."""
    return cluster.stranger.run(sys.executable, "-", *words, stdin=STRANGER.read_text())


def test_without_a_firewall_a_stranger_reaches_rays_ports_and_is_refused_without_the_token(cluster: Lab) -> None:
    head = cluster.nodes[0]
    rules = head.run("nft", "list", "table", "inet", "sisr", user="root")
    token = cluster.laptop.path(HOME / ".ray" / "auth_token").read_text().strip()
    head.run("nft", "delete", "table", "inet", "sisr", user="root")
    try:
        ports = json.loads(stranger(cluster, "scan", head.address))[head.address]
        assert {22, 6379} <= set(ports)
        assert not {8265, 5000} & set(ports), "the dashboard with its jobs, and MLflow, are on the head's loopback"
        others = [str(port) for port in ports if port != 22]
        without = json.loads(stranger(cluster, "ask", head.address, *others))
        wrong = json.loads(stranger(cluster, "ask", head.address, "6379", f"--token={'0' * 64}"))
        right = json.loads(stranger(cluster, "ask", head.address, "6379", f"--token={token}"))
    finally:
        head.run("nft", "-f", "-", user="root", stdin=rules)
    loopback = json.loads(head.run(sys.executable, "-", "ask", "127.0.0.1", "8265", stdin=STRANGER.read_text()))["8265"]
    assert {loopback[page] for page in ("/api/jobs/", "/api/version", "/logs")} == {"401"}, "nor on the head itself"
    jobs = "/ray.rpc.JobInfoGcsService/GetAllJobInfo"
    assert (without["6379"][jobs], wrong["6379"][jobs], right["6379"][jobs]) == (*["UNAUTHENTICATED"] * 2, "OK")
    answered = {port: sorted(what for what, how in got.items() if how in OPEN) for port, got in without.items()}
    pages = [got for got in answered.values() if "/metrics" in got]
    assert len(pages) == 3, "numbers for Prometheus: of the autoscaler, the dashboard and the node"
    rest = {what for got in answered.values() if "/metrics" not in got for what in got}
    assert rest <= {"/grpc.health.v1.Health/Check", "/api/healthz"}, "beside them, only whether it is alive"


OPEN = ("OK", "200", "INVALID_ARGUMENT", "INTERNAL", "UNKNOWN")  # what was not turned away


def test_a_sweep_runs_on_all_hosts(cluster: Lab) -> None:
    sweep = ("--trials", "3", "--steps", "5", "--search", "random", "--scheduler", "none", "--objective", "val/psnr_y")
    cluster.run(*cluster.submit("tune", *RUN, *sweep, "--name", "sweep"))
    ledger = cluster.shared / "runs" / "sweep"
    assert (ledger / "best.yaml").is_file()
    assert len(list(ledger.glob("trials/*/model"))) == 3
    found = in_mlflow(cluster)
    assert sum(run["parent"] is not None for run in found.values()) == 3


def test_a_run_goes_on_without_a_host_that_is_cut_off_and_comes_back_later(cluster: Lab) -> None:
    words = cluster.submit("train", *RUN, *PAIR, "--name", "lost", "--steps", str(STEPS), options=["--tmux"])
    cluster.run(*words)
    wait_for("a checkpoint", lambda: checkpoints(cluster, "lost"))
    lost = next(host for host in training(cluster) if host is not cluster.nodes[0])
    assert status(cluster, "lost")["state"] == "running"
    cluster.network.cut(lost)
    try:
        wait_for("the end of the run", lambda: status(cluster, "lost").get("state") in ("finished", "failed"))
        assert (status(cluster, "lost")["state"], status(cluster, "lost")["step"]) == ("finished", STEPS)
        wait_for("the end of what the lost host ran", lambda: left_on(lost) == [])
    finally:
        cluster.network.plug_in(lost)
    wait_for("the lost host", lambda: is_complete(cluster))


@pytest.fixture
def bucket(cluster: Lab) -> Iterator[str]:
    """The address of runs in a bucket that every host reaches; each has pictures of its own, and none shares a disk."""
    head = cluster.nodes[0]
    for host in cluster.nodes:
        shutil.copytree(cluster.laptop.path(HOME / "photos"), host.path(HOME / "photos"), dirs_exist_ok=True)
        (host.path(HOME) / ".aws").mkdir(exist_ok=True)
        (host.path(HOME) / ".aws" / "config").write_text(
            "[default]\naws_access_key_id = testing\naws_secret_access_key = testing\nregion = us-east-1\n"
            f"endpoint_url = http://{head.address}:5005\n"
        )
        own(host, HOME / "photos", HOME / ".aws")
    server = (VENV / "bin" / "python", "-c", "from moto.server import main; main()", "-H", head.address, "-p", "5005")
    with started(head.command(*server), talks=False):
        make = (
            f"import boto3; boto3.client('s3', endpoint_url='http://{head.address}:5005').create_bucket(Bucket='lab')"
        )
        wait_for("the bucket", lambda: ask(head, make) is not None, 120)
        yield "s3://lab/runs"


def ask(host: Host, program: str) -> str | None:
    """What a Python program prints on a host, whose packages are the project's; None where it fails."""
    done = subprocess.run(host.command(VENV / "bin" / "python", "-c", program), capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else None


def test_a_run_whose_hosts_share_nothing_but_a_bucket_goes_on_without_one_of_them(cluster: Lab, bucket: str) -> None:
    head, steps = cluster.nodes[0], 2 * STEPS
    data = ("--data", f"{HOME}/photos", "--runs", bucket, "--name", "apart", "--steps", str(steps))
    words = cluster.submit("train", "srez", *TINY, *data, *PAIR, "--precision", "fp32", options=["--tmux"])
    cluster.run(*words)

    def now() -> dict[str, Any]:
        (found, *_) = [*head.path(HOME / ".cache" / "sisr" / "runs").glob("*/lab/runs/apart/status.json"), None]
        try:
            return dict(json.loads(found.read_text())) if found else {}
        except ValueError:
            return {}

    wait_for("steps after a checkpoint", lambda: now().get("step", 0) > 12)
    lost = next(host for host in training(cluster) if host is not head)
    assert now()["state"] == "running"
    cluster.network.cut(lost)
    try:
        wait_for("the end of the run", lambda: now().get("state") in ("finished", "failed"))
        assert (now()["state"], now()["step"]) == ("finished", steps)
        wait_for("the end of what the lost host ran", lambda: left_on(lost) == [])
    finally:
        cluster.network.plug_in(lost)
    wait_for("the lost host", lambda: is_complete(cluster))
    assert not (cluster.shared / "runs" / "apart").exists()
    cluster.on_head("sisr", "pull", f"{bucket}/apart", str(SHARED / "home"))
    home = RunFolder(cluster.shared / "home")
    assert home.status()["state"] == "finished"
    assert [*curve(home)] == [*range(1, steps + 1)]
    assert in_mlflow(cluster)["apart"]["models"] == ["generator"]


def test_a_sweep_whose_hosts_share_nothing_but_a_bucket_goes_on_without_one_of_them(cluster: Lab, bucket: str) -> None:
    sweep = ("--trials", "4", "--steps", "60", "--rungs", "30", "--search", "random", "--scheduler", "asha")
    data = ("--data", f"{HOME}/photos", "--runs", bucket, "--name", "wide", "--objective", "val/psnr_y")
    pairs = ("--workers-per-trial", "2", "--cpus-per-trial", HALF)  # of which each has a host to itself
    words = cluster.submit("tune", "srez", *TINY, *data, *sweep, *pairs)
    (_, *others), over, lost = cluster.nodes, threading.Event(), list[Host]()

    def cut_one_that_runs_a_slice() -> None:
        while not over.wait(0.2) and not lost:
            lost.extend(h for h in others if [*h.path(HOME / ".cache/sisr").glob("trials/*/wide/trials/*")])
            for host in lost:
                cluster.network.cut(host)

    thread = threading.Thread(target=cut_one_that_runs_a_slice)
    thread.start()
    try:
        cluster.run(*words)
    finally:
        over.set()
        thread.join()
        for host in lost:
            cluster.network.plug_in(host)
    assert lost, "no slice ran on another host"
    wait_for("the lost host", lambda: is_complete(cluster))
    cluster.on_head("sisr", "pull", f"{bucket}/wide", str(SHARED / "wide"))
    trials = sorted((cluster.shared / "wide" / "trials").iterdir())
    assert len(trials) == 4
    ends = [[*curve(RunFolder(trial))][-1] for trial in trials]
    assert set(ends) == {30, 60}
    for trial, end in zip(trials, ends, strict=True):
        assert [*curve(RunFolder(trial))] == [*range(1, end + 1)], "no step is lost"
    found = in_mlflow(cluster)
    assert sum(run["parent"] is not None and name.startswith("wide") for name, run in found.items()) == 4


def test_a_run_whose_connection_is_lost_saves_and_stops(cluster: Lab) -> None:
    words = cluster.submit("train", *RUN, *ALONE, "--name", "saved", "--steps", "100000")
    with started(cluster.command(*words)):
        wait_for("a checkpoint", lambda: checkpoints(cluster, "saved"))
    wait_for("the end of the run", lambda: status(cluster, "saved").get("state") == "stopped")
    assert int(checkpoints(cluster, "saved")[-1].parent.name[5:]) == status(cluster, "saved")["step"]


def test_a_job_outlives_the_connection(cluster: Lab) -> None:
    words = ["sisr", "train", *RUN, "--runs", f"{SHARED}/runs", "--name", "job", "--steps", str(STEPS), *ALONE]
    address = ("--address", "http://127.0.0.1:8265")
    with started(cluster.command("ray", "dashboard", CLUSTER)):
        submit = cluster.command("ray", "job", "submit", *address, "--no-wait", "--submission-id", "job", "--", *words)
        wait_for("the tunnel", lambda: subprocess.run(submit, capture_output=True).returncode == 0, 240)
    wait_for("a checkpoint", lambda: checkpoints(cluster, "job"))
    cluster.network.cut(cluster.laptop)
    try:
        wait_for("the end of the run", lambda: status(cluster, "job").get("state") in ("finished", "failed"))
    finally:
        cluster.network.plug_in(cluster.laptop)
    assert (status(cluster, "job")["state"], status(cluster, "job")["step"]) == ("finished", STEPS)


def test_changed_code_comes_to_all_hosts_by_ray_up(cluster: Lab) -> None:
    which = "from sisr.disk.code_revision import digest; print(digest())"
    file = cluster.laptop.path(PROJECT / "pipelines" / "runs.py")
    file.write_text(file.read_text() + "\n# changed\n")
    mine = cluster.run("python", "-c", which)
    assert mine not in {ask(host, which) for host in cluster.nodes}
    cluster.run("python", "-m", "sisr.disk.code_revision")
    cluster.run("ray", "up", "-y", CLUSTER)
    wait_for("all hosts", lambda: is_complete(cluster))
    assert {ask(host, which) for host in cluster.nodes} == {mine}
    cluster.run(*cluster.submit("train", *RUN, *PAIR, "--name", "changed", "--steps", "5"))
    assert status(cluster, "changed")["state"] == "finished"


def left_on(host: Host) -> list[str]:
    """What of ours still runs on a host; terminals that `--tmux` left open are the user's."""
    return [line for line in host.processes() if any(name in line for name in OURS) and "tmux" not in line]


def test_ray_down_leaves_nothing_behind(cluster: Lab) -> None:
    assert any("mlflow" in line for line in left_on(cluster.nodes[0]))
    cluster.run("ray", "down", "-y", CLUSTER)
    wait_for("the end of all that ran", lambda: not any(left_on(host) for host in cluster.nodes), 240)
