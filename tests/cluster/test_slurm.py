"""Slurm as docs/cluster.md has it: a controller and two nodes that share storage, and jobs of deploy/slurm.sh.

The hosts are network namespaces (`hosts.py`); Slurm is Debian's.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import hosts
import slurm
from hosts import UID, Host
from lab import PACKAGES, REPOSITORY, SCRIPT

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

SHARED, STEPS = Path("/shared"), 40
PROJECT, VENV = SHARED / "sisr", SHARED / "sisr" / ".venv"
SETTINGS = ("batch_size=4", "hr_crop=32", "source_side=64", "box=null", "discriminator_features=4")
OPTIONS = ("evaluate_every=5", "log_every=1", "validation_side=64", "perceptual=none", "threads=1")
TINY = [word for text in (*SETTINGS, "generator_features=[8,6,4]") for word in ("--set", text)]
TINY += [word for text in OPTIONS for word in ("--option", text)]
RUN = ["srez", "--data", f"{SHARED}/photos", *TINY, "--precision", "fp32"]


ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")


@dataclass(frozen=True)
class Cluster:
    """A controller, from which jobs are submitted, and the nodes."""

    controller: Host
    nodes: list[Host]
    shared: Path  # as this machine sees it

    def submit(self, *words: str) -> str:
        """Submit a job over both nodes, and return its number."""
        export = "--export=ALL,MLFLOW_TRACKING_URI=http://127.0.0.1:9,RAY_worker_niceness=0"
        command = ["sbatch", "--parsable", "--nodes=2", export, "deploy/slurm.sh", *words]
        return self.controller.run("sh", "-c", f'cd {PROJECT} && exec "$@"', "sh", *command).strip()

    def state(self, job: str) -> str:
        return self.controller.run("squeue", "-h", "-t", "all", "-j", job, "-o", "%T").strip()

    def log(self, job: str) -> str:
        path = self.shared / "sisr" / f"slurm-{job}.log"
        return path.read_text() if path.is_file() else ""

    def ended(self, job: str) -> str:
        """Wait for a job's end, and return its state."""
        return wait_for("the job's end", lambda: self.state(job), ENDED, self, job)

    def status(self, run: str) -> dict[str, Any]:
        path = self.shared / "sisr" / "runs" / run / "status.json"
        return dict(json.loads(path.read_text())) if path.is_file() else {}


def wait_for(what: str, look: Callable[[], Any], wanted: tuple[Any, ...], cluster: Cluster, job: str) -> Any:
    """Return what is seen once it is wanted; a job that has ended gives nothing more to see."""
    deadline = time.monotonic() + 500
    while True:
        over = cluster.state(job) in ENDED or time.monotonic() > deadline  # before the look, after which nothing comes
        if (found := look()) in wanted:
            return found
        assert not over, f"waited for {what}, got {found}\n{cluster.log(job)}"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if reason := hosts.missing() or slurm.missing():
        pytest.skip(reason)
    scratch = tmp_path_factory.mktemp("slurm")
    shared = scratch / "shared"
    (scratch / "hosts").mkdir()
    install(shared)
    read_only = sorted({Path(sys.prefix), Path(sys.base_prefix), *PACKAGES})
    names = ["ctl", "one", "two"]
    with hosts.network(
        names, scratch / "hosts", read_only=read_only, shared={shared: SHARED}, strangers=set()
    ) as found:
        made = Cluster(found.hosts["ctl"], [found.hosts[name] for name in names[1:]], shared)
        slurm.start(made.controller, made.nodes)
        yield made


def install(shared: Path) -> None:
    """Put the project on shared storage with an environment beside it, as `make install` does there."""
    project = shared / "sisr"
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", "REVISION")
    for name in ("platform", "pipelines", "search_spaces", "deploy"):
        shutil.copytree(REPOSITORY / name, project / name, ignore=ignore)
    packages = project / ".venv" / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    packages.mkdir(parents=True)
    places = [PROJECT / "platform", *PACKAGES]
    (packages / "packages.pth").write_text("".join(f"{path}\n" for path in places))
    programs = project / ".venv" / "bin"
    programs.mkdir()
    ray = programs / "ray"
    ray.write_text(SCRIPT.format(python=VENV / "bin" / "python", module="ray.scripts.scripts", name="main"))
    ray.chmod(0o755)
    (programs / "python").symlink_to(Path(getattr(sys, "_base_executable", sys.executable)).resolve())
    (project / ".venv" / "pyvenv.cfg").write_text(f"home = {Path(sys.base_prefix, 'bin')}\n")
    for link, target in {"pipelines": PROJECT / "pipelines", "search_spaces": PROJECT / "search_spaces"}.items():
        (project / "platform" / "sisr" / link).unlink(missing_ok=True)
        (project / "platform" / "sisr" / link).symlink_to(target)
    photos = shared / "photos"
    photos.mkdir()
    for number in range(8):
        Image.effect_noise((80, 80), 30 + number).convert("RGB").save(photos / f"{number}.png")
    for path in [shared, *shared.rglob("*")]:
        os.chown(path, UID, UID, follow_symlinks=False)


def test_a_job_whose_time_ends_saves_and_goes_on_when_it_is_queued_again(cluster: Cluster) -> None:
    cpus = str(os.cpu_count())
    length = ["--set", f"steps={STEPS}", "--workers", "2", "--cpus-per-worker", cpus]
    job = cluster.submit("train", *RUN, "--name", "first", *length)
    early = tuple(range(5, STEPS - 5))
    wait_for("step 5", lambda: cluster.status("first").get("step", 0), early, cluster, job)
    cluster.controller.run("scancel", "--batch", "--signal=USR1", job)  # as Slurm does by --signal=B:USR1@120
    assert cluster.ended(job) == "COMPLETED", cluster.log(job)
    log = cluster.log(job)
    assert "slurm.sh: saved; queued again" in log
    assert log.count("Running command on head node") == 2
    assert log.splitlines()[-1].startswith("slurm.sh: train has ended well (0)"), "whatever Ray says as it ends"
    status = cluster.status("first")
    assert (status["state"], status["step"]) == ("finished", STEPS)
    journal = (cluster.shared / "sisr" / "runs" / "first" / "evaluations.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in journal] == list(range(0, STEPS + 1, 5))


def test_a_sweep_runs_its_trials_on_all_nodes_of_a_job(cluster: Cluster) -> None:
    length = ["--steps", "4", "--trials", "4", "--scheduler", "none", "--search", "random", "--name", "sweep"]
    job = cluster.submit("tune", *RUN, *length, "--space", "discriminator_learning_rate=", "--objective", "val/psnr_y")
    assert cluster.ended(job) == "COMPLETED", cluster.log(job)
    trials = cluster.shared / "sisr" / "runs" / "sweep" / "trials"
    states = [json.loads(path.read_text())["state"] for path in trials.glob("*/status.json")]
    assert states == ["finished"] * 4


def test_a_wrong_setting_ends_the_job_with_the_pipelines_message(cluster: Cluster) -> None:
    job = cluster.submit("train", "srez", "--set", "batch_sise=3")
    assert cluster.ended(job) == "FAILED"
    assert "did you mean 'batch_size'?" in cluster.log(job)


def test_nothing_of_a_job_is_left_on_its_nodes(cluster: Cluster) -> None:
    for node in cluster.nodes:
        left = [line for line in node.processes() if "ray" in line or "pipelines" in line]
        assert left == []
        assert list(node.path("/tmp").glob("tmp.*")) == []
