"""What would let strangers into a cluster, or cost more than it must, in a configuration of Ray's cluster launcher.

It is judged with Ray's defaults filled in, since several of them are what is unsafe.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sisr.disk.cache import expanded
from sisr.doctor.diagnosis import Diagnosis, Level
from sisr.doctor.machine import examine_token

ANYWHERE = re.compile(r"0\.0\.0\.0/0|::/0")
ALL_INTERFACES = re.compile(r"--(?:dashboard-)?host[= ](0\.0\.0\.0|::|\*)")
TOKEN = "~/.ray/auth_token"
TUNNEL = "--dashboard-host=127.0.0.1; look at it through `ray dashboard` or `ray attach -p 8265`"
START = ("head_start_ray_commands", "worker_start_ray_commands")

Config = Mapping[str, Any]
Where = Callable[..., str]  # keys, outermost first -> "file:line"


def examine(config: Config, where: Where) -> list[Diagnosis]:
    """Return what is unsafe or needlessly costly.

    Args:
        config: The launcher's configuration, Ray's defaults included.
        where: Returns the place where nested keys are written, as "file:line".
    """
    findings = [*_commands(config, where), *_starts(config, where), *_token(config, where)]
    if config["provider"].get("type") == "aws":
        findings += [*_provider(config, where), *_nodes(config, where)]
    return findings


def _commands(config: Config, where: Where) -> Iterator[Diagnosis]:
    """Yield which commands open a server to others."""
    for key in [key for key in config if key.endswith("commands")]:
        for match in filter(None, map(ALL_INTERFACES.search, config[key] or ())):
            found = f"{match.group()} opens a server to every machine that reaches this one"
            remedy = TUNNEL if "dashboard" in match.group() else "--host 127.0.0.1, and an SSH tunnel"
            yield Diagnosis("error", where(key), found, remedy)


def _starts(config: Config, where: Where) -> Iterator[Diagnosis]:
    """Yield what is wrong with how Ray is started."""
    for key in START:
        starts = [command for command in config.get(key) or () if "ray start" in command]
        if not starts:
            yield Diagnosis("error", where(key), f"{key} never runs `ray start`", "see cluster.yaml")
        elif not any("RAY_AUTH_MODE=token" in command for command in starts):
            found = "`ray start` without RAY_AUTH_MODE=token: whoever reaches the cluster runs code on it"
            yield Diagnosis("error", where(key), found, "export RAY_AUTH_MODE=token before `ray start`")
        if starts and not any("unset OMP_NUM_THREADS" in command for command in starts):
            found = "Ray's launcher sets OMP_NUM_THREADS=1, which training inherits: one CPU thread per worker"
            yield Diagnosis("warning", where(key), found, "unset OMP_NUM_THREADS before `ray start`")


def _token(config: Config, where: Where) -> Iterator[Diagnosis]:
    """Yield why the nodes would have no token, or one that others know."""
    mounts = config.get("file_mounts") or {}
    if TOKEN not in mounts:
        found = f"{TOKEN} is not copied to the nodes"
        yield Diagnosis("error", where("file_mounts"), found, f'file_mounts: {{"{TOKEN}": "{TOKEN}"}}')
    elif problem := examine_token(expanded(str(mounts[TOKEN]))):
        yield Diagnosis("error", where("file_mounts", TOKEN), problem.found, problem.remedy)


def _provider(config: Config, where: Where) -> Iterator[Diagnosis]:
    """Yield what is unsafe or costly about a cluster on AWS as a whole."""
    provider = config["provider"]
    for match in filter(None, [ANYWHERE.search(str(provider.get("security_group")))]):
        place = where("provider", "security_group")
        yield Diagnosis("error", place, f"the security group lets in {match.group()}", "your own address: A.B.C.D/32")
    if provider.get("cache_stopped_nodes", True):
        place = where("provider", "cache_stopped_nodes")
        yield Diagnosis("warning", place, "stopped nodes keep their disks, which cost", "cache_stopped_nodes: false")
    if not config.get("idle_timeout_minutes"):
        place = where("idle_timeout_minutes")
        yield Diagnosis("warning", place, "idle nodes are never returned", "idle_timeout_minutes: 10")


def _nodes(config: Config, where: Where) -> Iterator[Diagnosis]:
    """Yield what is unsafe or costly about each node type on AWS."""
    for name, kind in (config.get("available_node_types") or {}).items():
        is_head, keys = name == config.get("head_node_type"), ("available_node_types", name)
        for level, key, found, remedy in _faults(mapping(kind.get("node_config")), is_head=is_head):
            yield Diagnosis(level, where(*keys, "node_config", key), f"{name}: {found}", remedy)
        if is_head and mapping(kind.get("resources")).get("CPU") != 0:
            found = f"{name}: the head would train, too, and take MLflow and the drivers down when it fails"
            yield Diagnosis("warning", where(*keys, "resources"), found, "resources: {CPU: 0}")
        if not is_head and kind.get("min_workers"):
            found = f"{name}: {kind['min_workers']} nodes are paid for even when nothing runs"
            yield Diagnosis("warning", where(*keys, "min_workers"), found, "min_workers: 0")


def _faults(node: Mapping[str, Any], *, is_head: bool) -> Iterator[tuple[Level, str, str, str]]:
    """Yield (level, key, what is wrong, what would be right) for one node's configuration."""
    if mapping(node.get("MetadataOptions")).get("HttpTokens") != "required":
        found = "a program that can be made to fetch an address gets the node's credentials (no IMDSv2)"
        yield "error", "MetadataOptions", found, "MetadataOptions: {HttpTokens: required}"
    listed = node.get("BlockDeviceMappings")
    disks = [mapping(mapping(one).get("Ebs")) for one in listed] if isinstance(listed, list) else []
    if not disks or not all(disk.get("Encrypted") is True for disk in disks):
        yield "error", "BlockDeviceMappings", "a disk is not encrypted", "Ebs: {Encrypted: true} for each"
    if not node.get("SecurityGroupIds") and not node.get("NetworkInterfaces"):
        found = "Ray would make a security group that lets in SSH from 0.0.0.0/0"
        yield "error", "SecurityGroupIds", found, "SecurityGroupIds: [sg-...], made beforehand"
    if not node.get("ImageId"):
        yield "error", "ImageId", "Ray would take Ubuntu 18.04, too old for torch", "ImageId: ami-..."
    if not is_head and not node.get("IamInstanceProfile"):
        found = "no instance profile: the node reaches no object storage"
        yield "warning", "IamInstanceProfile", found, "IamInstanceProfile: {Arn: ...}"


def mapping(value: Any) -> Mapping[str, Any]:
    """Return the value where it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}
