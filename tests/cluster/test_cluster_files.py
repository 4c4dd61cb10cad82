"""cluster.yaml and cluster.local.yaml: valid for Ray, safe on a simulated AWS, and explained line by line."""

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sisr.cluster import capacity
from sisr.cluster.capacity import with_defaults
from sisr.config.yaml import read_yaml
from sisr.doctor import cluster_file

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = ("cluster.yaml", "cluster.local.yaml")
REGION = "us-east-1"
ADDRESS = "203.0.113.7/32"
LOCAL = {
    "FILL_IN_HEAD_ADDRESS": "10.0.0.1",
    "FILL_IN_WORKER_ADDRESS": "10.0.0.2, 10.0.0.3",
    "FILL_IN_USER": "ray",
    "FILL_IN_SHARED_FOLDER": "/shared",
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with a private token and key."""
    for name in (".ray/auth_token", ".ssh/key.pem"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch(mode=0o600)
        path.write_text("secret")
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def aws() -> Iterator[Any]:
    """A simulated AWS, empty but for the default network."""
    import boto3
    from moto import mock_aws

    with pytest.MonkeyPatch.context() as patch, mock_aws():
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            patch.setenv(name, "simulated")
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        yield boto3.resource("ec2", region_name=REGION)


def prepare_account(ec2: Any) -> dict[str, str]:
    """Make what docs/cluster.md says must be there beforehand; return what to fill in."""
    vpc = next(iter(ec2.vpcs.filter(Filters=[{"Name": "is-default", "Values": ["true"]}])))
    group = ec2.create_security_group(GroupName="sisr", Description="sisr", VpcId=vpc.id)
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": ADDRESS}]}
    within = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group.id}]}
    group.authorize_ingress(IpPermissions=[ssh, within])
    ec2.create_key_pair(KeyName="sisr")
    import boto3

    iam = boto3.client("iam", region_name=REGION)
    profiles = {
        name: iam.create_instance_profile(InstanceProfileName=f"sisr-{name}")["InstanceProfile"]["Arn"]
        for name in ("head", "worker")
    }
    return {
        "FILL_IN_IMAGE_ID": next(iter(ec2.images.filter(Owners=["amazon"]))).id,
        "FILL_IN_KEY_PAIR": "sisr",
        "FILL_IN_SECURITY_GROUP": group.id,
        "FILL_IN_HEAD_PROFILE_ARN": profiles["head"],
        "FILL_IN_WORKER_PROFILE_ARN": profiles["worker"],
        "FILL_IN_FILE_SYSTEM": "fs-1.efs.us-east-1.amazonaws.com",
        "FILL_IN_BUCKET": "pictures",
    }


def read(path: Path) -> dict[str, Any]:
    """The settings in a file, as Ray's launcher would get them."""
    return dict(cluster_file.plain(read_yaml(path)))


def filled(path: Path, values: dict[str, str], folder: Path) -> Path:
    """Write the file with its placeholders filled in, beside links to what it copies."""
    text = path.read_text()
    for name, value in {**values, "FILL_IN_PRIVATE_KEY_FILE": "~/.ssh/key.pem"}.items():
        text = text.replace(name, value)
    target = folder / path.name
    target.write_text(text)
    for local in read(target)["file_mounts"].values():
        if not local.startswith("~"):
            (folder / local).symlink_to(path.parent / local)
    return target


def bootstrapped(path: Path) -> dict[str, Any]:
    """What Ray's launcher makes of the file before it starts anything."""
    from ray.autoscaler._private.commands import _bootstrap_config

    return dict(_bootstrap_config(read(path), no_config_cache=True))


@pytest.mark.parametrize("name", FILES)
def test_each_file_passes_rays_own_validation_as_it_is_shipped(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(read(REPOSITORY / name)))


@pytest.mark.parametrize("name", FILES)
def test_as_shipped_the_doctor_names_every_placeholder_and_nothing_else(name: str) -> None:
    placeholders = re.findall(r"FILL_IN_\w+", (REPOSITORY / name).read_text())
    findings = cluster_file.examine(REPOSITORY / name, with_defaults)
    assert [one.found for one in findings] == [f"{placeholder} is not filled in" for placeholder in placeholders]
    assert all(one.remedy for one in findings), "each says what belongs there"


@pytest.mark.parametrize("name", FILES)
def test_what_must_be_filled_in_stands_together_at_the_top(name: str) -> None:
    lines = (REPOSITORY / name).read_text().splitlines()
    end = next(number for number, line in enumerate(lines) if "same for everybody" in line)
    assert end < 25
    assert not any("FILL_IN" in line for line in lines[end:])


@pytest.mark.parametrize("name", FILES)
def test_every_line_is_explained_by_a_comment(name: str) -> None:
    """By its own, by one at the head of its paragraph, or by that of the same key before it."""
    explained: set[str] = set()
    is_headed = False
    for line in (REPOSITORY / name).read_text().splitlines():
        key, _, value = line.strip().partition("#")[0].partition(":")
        is_headed = bool(line.strip()) and (is_headed or line.startswith("#"))
        if "#" in line:
            explained.add(key)
        elif value.strip() and not line.lstrip().startswith("'"):
            assert is_headed or key in explained, line


def test_the_filled_in_file_for_ones_own_machines_is_faultless(tmp_path: Path) -> None:
    path = filled(REPOSITORY / "cluster.local.yaml", LOCAL, tmp_path)
    assert [one.level for one in cluster_file.examine(path, with_defaults)] == ["ok"]
    config = bootstrapped(path)
    assert config["provider"]["worker_ips"] == ["10.0.0.2", "10.0.0.3"]
    assert config["max_workers"] == 2


@pytest.fixture(scope="module")
def account(aws: Any) -> dict[str, str]:
    return prepare_account(aws)


@pytest.fixture(scope="module")
def config(account: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """cluster.yaml, filled in and resolved against the simulated AWS."""
    return bootstrapped(filled(REPOSITORY / "cluster.yaml", account, tmp_path_factory.mktemp("aws")))


@pytest.mark.slow
def test_the_filled_in_file_for_aws_is_faultless(tmp_path: Path, account: dict[str, str]) -> None:
    assert [
        one.level for one in cluster_file.examine(filled(REPOSITORY / "cluster.yaml", account, tmp_path), with_defaults)
    ] == ["ok"]


@pytest.mark.slow
def test_on_aws_nothing_but_ssh_from_one_address_gets_in(config: dict[str, Any], aws: Any) -> None:
    groups = {id for kind in config["available_node_types"].values() for id in kind["node_config"]["SecurityGroupIds"]}
    assert len(groups) == 1
    outside = [
        (rule["FromPort"], rule["ToPort"], [r["CidrIp"] for r in rule["IpRanges"]])
        for rule in aws.SecurityGroup(groups.pop()).ip_permissions
        if rule["IpRanges"]
    ]
    assert outside == [(22, 22, [ADDRESS])]
    names = {group.group_name for group in aws.security_groups.all()}
    assert "ray-autoscaler-sisr" not in names, "Ray made a group of its own, open to everybody"


@pytest.mark.slow
def test_on_aws_the_head_trains_nothing_and_workers_come_from_zero_spot_first(config: dict[str, Any]) -> None:
    kinds = config["available_node_types"]
    assert kinds["head"]["resources"]["CPU"] == 0
    workers = {name: kind for name, kind in kinds.items() if name != config["head_node_type"]}
    assert all(kind["min_workers"] == 0 and kind["resources"]["GPU"] == 1 for kind in workers.values())
    first = max(workers, key=lambda name: workers[name]["priority"])
    is_spot = {name: "InstanceMarketOptions" in kind["node_config"] for name, kind in workers.items()}
    assert is_spot == {name: name == first for name in workers}
    assert config["idle_timeout_minutes"] > 0
    assert config["provider"]["cache_stopped_nodes"] is False


@pytest.mark.slow
def test_on_aws_every_node_can_use_the_bucket_and_only_the_head_may_start_others(
    config: dict[str, Any], account: dict[str, str]
) -> None:
    profiles = {n: k["node_config"]["IamInstanceProfile"]["Arn"] for n, k in config["available_node_types"].items()}
    assert profiles.pop("head") == account["FILL_IN_HEAD_PROFILE_ARN"]
    assert set(profiles.values()) == {account["FILL_IN_WORKER_PROFILE_ARN"]}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["head", "gpu_spot", "gpu_on_demand"])
def test_an_instance_on_aws_has_imdsv2_and_an_encrypted_disk(config: dict[str, Any], aws: Any, kind: str) -> None:
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    provider = AWSNodeProvider(config["provider"], "sisr")
    made = provider.create_node(config["available_node_types"][kind]["node_config"], {"ray-node-type": "test"}, 1)
    instance = aws.Instance(next(iter(made)))
    assert instance.metadata_options["HttpTokens"] == "required"
    assert [volume.encrypted for volume in instance.volumes.all()] == [True]
    assert bool(instance.spot_instance_request_id or instance.instance_lifecycle) == (kind == "gpu_spot")


@pytest.mark.parametrize("name", FILES)
def test_ray_starts_with_token_and_nothing_but_loopback_for_the_dashboard(name: str) -> None:
    config = read(REPOSITORY / name)
    keys = ("head_start_ray_commands", "worker_start_ray_commands")
    head, worker = (next(one for one in config[key] if "ray start" in one) for key in keys)
    assert "--dashboard-host=127.0.0.1" in head
    for command in (head, worker):
        assert command.index("export RAY_AUTH_MODE=token") < command.index("ray start")
        assert command.index("unset OMP_NUM_THREADS") < command.index("ray start")
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


def test_a_cluster_file_copies_all_that_the_nodes_install_and_nothing_large() -> None:
    for name in FILES:
        local = set(read(REPOSITORY / name)["file_mounts"].values()) - {"~/.ray/auth_token"}
        assert all((REPOSITORY / path).exists() for path in local)
        assert {"platform", "pipelines", "search_spaces", "pyproject.toml", "constraints.txt"} <= local
        assert not local & {".", "runs", ".venv", ".git"}


@pytest.mark.parametrize("name", FILES)
def test_nothing_in_the_home_folder_of_a_node_would_be_taken_for_the_package(name: str) -> None:
    """`ray submit` runs a script there, and Python looks for packages beside it first."""
    for target in read(REPOSITORY / name)["file_mounts"]:
        assert Path(target).parts[1] not in ("sisr", "ray", "torch", "mlflow")


@pytest.mark.slow
def test_the_head_knows_which_gpus_may_come_before_any_is_there(config: dict[str, Any], home: Path) -> None:
    (home / capacity.LAUNCHER_FILE).write_text(json.dumps(config))
    head = {"Alive": True, "Resources": {"CPU": 0.0, capacity.HEAD: 1.0}}
    found = capacity.read(SimpleNamespace(nodes=lambda: [head]))
    assert (found.grows, found.uncertain, found.limit) == (True, False, 4)
    assert found.may_fit({"CPU": 4, "GPU": 1}) == 4, "spot and on demand together"


FAULTS = [
    ("--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0", "error", "opens a server to every machine"),
    ("export RAY_AUTH_MODE=token; ulimit", "ulimit", "error", "whoever reaches the cluster runs code on it"),
    ('  "~/.ray/auth_token": ~/.ray/auth_token', "  # none", "error", "auth_token is not copied to the nodes"),
    ("{HttpTokens: required, HttpPutResponseHopLimit: 1}", "{}", "error", "head: a program that can be made to fetch"),
    ("Encrypted: true", "Encrypted: false", "error", "gpu_spot: a disk is not encrypted"),
    ("Encrypted: true", "Encrypted: yes", "error", "gpu_spot: a disk is not encrypted"),
    ("      SecurityGroupIds: [*security_group]\n", "", "error", "gpu_on_demand: Ray would make a security group"),
    ("ImageId: *image # explicit", "# ImageId", "error", "head: Ray would take Ubuntu 18.04"),
    (
        "cache_stopped_nodes: false",
        "security_group: {GroupName: g, IpPermissions: [{CidrIp: 0.0.0.0/0}]}\n  cache_stopped_nodes: false",
        "error",
        "the security group lets in 0.0.0.0/0",
    ),
    ("cache_stopped_nodes: false", "cache_stopped_nodes: true", "warning", "stopped nodes keep their disks"),
    ("idle_timeout_minutes: 10", "idle_timeout_minutes: 0", "warning", "idle nodes are never returned"),
    ("resources: {CPU: 0, GPU: 0}", "resources: {}", "warning", "head: the head would train, too"),
    ("min_workers: 0", "min_workers: 1", "warning", "gpu_spot: 1 nodes are paid for"),
    ("IamInstanceProfile: {Arn: *worker_profile}", "Monitoring: {Enabled: true}", "warning", "no instance profile"),
    ("unset OMP_NUM_THREADS PYTHONWARNINGS; ", "", "warning", "one CPU thread per worker"),
    ("    min_workers: 0", "    min_worker: 0", "error", "min_worker"),
    ("idle_timeout_minutes: 10", "idle_timeout_minutes: ten", "error", "'ten' is not of type 'number'"),
    ("max_workers: 4 # of all", "max_workers: -1 # of all", "error", "-1 is less than the minimum of 0"),
    ("head_node_type: head", "head_node_type: boss", "error", "head_node_type"),
    ('"~/sisr-code/deploy": deploy', '"~/sisr-code/deploy": gone', "error", "gone is not there"),
    ('"~/sisr-code/deploy": deploy', '"~/sisr-code/deploy": .', "warning", "is the whole project"),
    ("~/.ssh/key.pem", "~/.ssh/other.pem", "error", "~/.ssh/other.pem is not there"),
]


@pytest.mark.parametrize(("old", "new", "level", "message"), FAULTS)
def test_each_fault_of_a_cluster_file_is_found_where_it_is(
    tmp_path: Path, old: str, new: str, level: str, message: str
) -> None:
    values = dict.fromkeys(re.findall(r"FILL_IN_\w+", (REPOSITORY / "cluster.yaml").read_text()), "sg-1")
    del values["FILL_IN_PRIVATE_KEY_FILE"]
    path = filled(REPOSITORY / "cluster.yaml", values, tmp_path)
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    findings = cluster_file.examine(path, with_defaults)
    found = [one for one in findings if one.level == level and message in one.found]
    assert found, findings
    assert all(one.what.startswith(str(path)) for one in findings)
    line = found[0].what.removeprefix(str(path)).lstrip(":")
    assert not line or int(line) <= len(path.read_text().splitlines())


@pytest.mark.parametrize(("mode", "text", "message"), [(0o644, "secret", "mode 0644"), (0o600, "", "is empty")])
def test_a_token_that_others_know_is_an_error(tmp_path: Path, home: Path, mode: int, text: str, message: str) -> None:
    token = home / ".ray" / "auth_token"
    token.write_text(text)
    token.chmod(mode)
    assert stat.S_IMODE(token.stat().st_mode) == mode
    path = filled(REPOSITORY / "cluster.local.yaml", LOCAL, tmp_path)
    found = [one for one in cluster_file.examine(path, with_defaults) if one.level == "error"]
    assert [message in one.found for one in found] == [True]
