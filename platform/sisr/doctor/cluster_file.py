"""A cluster file examined before it costs money: what Ray refuses, what is not filled in, unsafe or costly."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sisr.config.yaml import Located, read_yaml
from sisr.disk.cache import expanded
from sisr.doctor import Diagnosis, Level
from sisr.doctor.machine import examine_token
from sisr.errors import ConfigError

PLACEHOLDER = re.compile(r"FILL_IN_[A-Z0-9_]+")
ANYWHERE = re.compile(r"0\.0\.0\.0/0|::/0")
ALL_INTERFACES = re.compile(r"--(?:dashboard-)?host[= ](0\.0\.0\.0|::|\*)")
TOKEN = "~/.ray/auth_token"
TUNNEL = "--dashboard-host=127.0.0.1; look at it through `ray dashboard` or `ray attach -p 8265`"
START = ("head_start_ray_commands", "worker_start_ray_commands")

Where = Callable[..., str]  # nested keys, outermost first -> "file:line"


class RefusedError(ConfigError):
    """Ray's launcher refuses a cluster file."""

    def __init__(self, problem: str, remedy: str, keys: Sequence[str] = ()) -> None:
        """Keep the nested keys, outermost first, of the setting that is wrong; none: it is not known which."""
        super().__init__(problem)
        self.remedy, self.keys = remedy, keys


def examine(path: Path, with_defaults: Callable[[dict[str, Any]], dict[str, Any]]) -> list[Diagnosis]:
    """Return what was found in a file of Ray's cluster launcher.

    `with_defaults` adds Ray's defaults, some of which are unsafe, to settings, or raises RefusedError.

    Raises:
        ConfigError: It can't be read, is not YAML, or is no cluster file at all.
    """

    def where(*keys: str) -> str:
        """Return "file:line" of the deepest of nested keys that is written there."""
        place, config = str(path), written
        for key in keys:
            if not isinstance(config, Located) or key not in config.where:
                break
            place, config = config.where[key], config[key]
        return place

    written: Any = read_yaml(path)
    if not isinstance(written.get("provider"), dict):
        raise ConfigError(f"{path}: no cluster file: it names no 'provider'")
    findings = [*_placeholders(path), *_files(path, written, where)]
    try:
        config = with_defaults(plain(written))
    except RefusedError as error:
        findings.append(Diagnosis("error", where(*error.keys), str(error), error.remedy))
    else:
        findings += [*_commands(config, where), *_starts(config, where), *_token(config, where)]
        if config["provider"].get("type") == "aws":
            findings += [*_provider(config, where), *_nodes(config, where)]
    return findings or [Diagnosis("ok", str(path), "valid for Ray, and nothing unsafe was found")]


def _placeholders(path: Path) -> Iterator[Diagnosis]:
    explained = ""  # by the line's comment, or by that of the line which begins what it belongs to
    for number, line in enumerate(path.read_text().splitlines(), 1):
        content, _, comment = line.partition("#")
        explained = comment.strip() or explained
        for name in PLACEHOLDER.findall(content):
            yield Diagnosis("error", f"{path}:{number}", f"{name} is not filled in", explained)


def _files(path: Path, written: Mapping[str, Any], where: Where) -> Iterator[Diagnosis]:
    """Yield which files that `ray up` uses are missing or unwise; their paths count from the cluster file's folder."""
    mounts = written.get("file_mounts")
    for remote, local in mounts.items() if isinstance(mounts, dict) else ():
        place = where("file_mounts", remote)
        source = (path.parent / expanded(str(local))).resolve()
        if remote != TOKEN and not source.exists():
            yield Diagnosis("error", place, f"{local} is not there", "run ray from the folder of the cluster file")
        elif source == path.parent.resolve():
            found = f"{local} is the whole project: Ray reads all of it, .venv and runs too, at every `ray up`"
            yield Diagnosis("warning", place, found, "mount the folders that the nodes need, as the shipped file does")
    key = written.get("auth", {}).get("ssh_private_key") if isinstance(written.get("auth"), dict) else None
    if isinstance(key, str) and not PLACEHOLDER.search(key):
        place = where("auth", "ssh_private_key")
        file = expanded(key)
        if not file.is_file():
            yield Diagnosis("error", place, f"{key} is not there", "name the private key of the key pair")
        elif file.stat().st_mode & 0o077:
            yield Diagnosis("error", place, f"others on this machine can read {key}", f"chmod 600 {key}")


def plain(value: Any) -> Any:
    """Return settings as dicts and lists that nobody else holds."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


def _commands(config: Mapping[str, Any], where: Where) -> Iterator[Diagnosis]:
    """Yield which commands open a server to others."""
    for key in [key for key in config if key.endswith("commands")]:
        for match in filter(None, map(ALL_INTERFACES.search, config[key] or ())):
            found = f"{match.group()} opens a server to every machine that reaches this one"
            remedy = TUNNEL if "dashboard" in match.group() else "--host 127.0.0.1, and an SSH tunnel"
            yield Diagnosis("error", where(key), found, remedy)


def _starts(config: Mapping[str, Any], where: Where) -> Iterator[Diagnosis]:
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


def _token(config: Mapping[str, Any], where: Where) -> Iterator[Diagnosis]:
    """Yield why the nodes would have no token, or one that others know."""
    mounts = config.get("file_mounts") or {}
    if TOKEN not in mounts:
        found = f"{TOKEN} is not copied to the nodes"
        yield Diagnosis("error", where("file_mounts"), found, f'file_mounts: {{"{TOKEN}": "{TOKEN}"}}')
    elif problem := examine_token(expanded(str(mounts[TOKEN]))):
        yield Diagnosis("error", where("file_mounts", TOKEN), problem.found, problem.remedy)


def _provider(config: Mapping[str, Any], where: Where) -> Iterator[Diagnosis]:
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


def _nodes(config: Mapping[str, Any], where: Where) -> Iterator[Diagnosis]:
    """Yield what is unsafe or costly about each node type on AWS."""
    for name, kind in (config.get("available_node_types") or {}).items():
        is_head, keys = name == config.get("head_node_type"), ("available_node_types", name)
        for level, key, found, remedy in _faults(_mapping(kind.get("node_config")), is_head=is_head):
            yield Diagnosis(level, where(*keys, "node_config", key), f"{name}: {found}", remedy)
        if is_head and _mapping(kind.get("resources")).get("CPU") != 0:
            found = f"{name}: the head would train, too, and take MLflow and the drivers down when it fails"
            yield Diagnosis("warning", where(*keys, "resources"), found, "resources: {CPU: 0}")
        if not is_head and kind.get("min_workers"):
            found = f"{name}: {kind['min_workers']} nodes are paid for even when nothing runs"
            yield Diagnosis("warning", where(*keys, "min_workers"), found, "min_workers: 0")


def _faults(node: Mapping[str, Any], *, is_head: bool) -> Iterator[tuple[Level, str, str, str]]:
    """Yield (level, key, what is wrong, what would be right) for one node's configuration."""
    if _mapping(node.get("MetadataOptions")).get("HttpTokens") != "required":
        found = "a program that can be made to fetch an address gets the node's credentials (no IMDSv2)"
        yield "error", "MetadataOptions", found, "MetadataOptions: {HttpTokens: required}"
    listed = node.get("BlockDeviceMappings")
    disks = [_mapping(_mapping(one).get("Ebs")) for one in listed] if isinstance(listed, list) else []
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


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
