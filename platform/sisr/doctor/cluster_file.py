"""A cluster file examined before it costs money: what Ray refuses, unfilled placeholders, and what would be unsafe."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sisr.config.yaml import Located, read_yaml
from sisr.disk.cache import expanded
from sisr.doctor import exposure
from sisr.doctor.diagnosis import Diagnosis
from sisr.doctor.exposure import TOKEN
from sisr.errors import ConfigError

PLACEHOLDER = re.compile(r"FILL_IN_[A-Z0-9_]+")


class RefusedError(ConfigError):
    """Ray's launcher refuses a cluster file."""

    def __init__(self, problem: str, remedy: str, keys: Sequence[str] = ()) -> None:
        """Keep the nested keys, outermost first, of the setting that is wrong; none: it is not known which."""
        super().__init__(problem)
        self.remedy, self.keys = remedy, keys


def examine(path: Path, with_defaults: Callable[[dict[str, Any]], dict[str, Any]]) -> list[Diagnosis]:
    """Return what was found in a file of Ray's cluster launcher.

    Args:
        path: The file.
        with_defaults: Adds Ray's defaults, some of which are unsafe, to settings; raises RefusedError.

    Raises:
        ConfigError: It can't be read, is not YAML, or is no cluster file at all.
    """
    written = read_yaml(path)
    if not isinstance(written.get("provider"), dict):
        raise ConfigError(f"{path}: no cluster file: it names no 'provider'")
    findings = [*_placeholders(path), *_files(path, written)]
    try:
        findings += exposure.examine(with_defaults(plain(written)), lambda *keys: where(path, written, keys))
    except RefusedError as error:
        findings.append(Diagnosis("error", where(path, written, error.keys), str(error), error.remedy))
    return findings or [Diagnosis("ok", str(path), "valid for Ray, and nothing unsafe was found")]


def _placeholders(path: Path) -> Iterator[Diagnosis]:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        for name in PLACEHOLDER.findall(line.partition("#")[0]):
            yield Diagnosis("error", f"{path}:{number}", f"{name} is not filled in", line.partition("#")[2].strip())


def _files(path: Path, written: Located) -> Iterator[Diagnosis]:
    """Yield which files that `ray up` uses are missing or unwise; their paths count from the cluster file's folder."""
    mounts = written.get("file_mounts")
    for remote, local in mounts.items() if isinstance(mounts, dict) else ():
        place = where(path, written, ["file_mounts", remote])
        source = (path.parent / expanded(str(local))).resolve()
        if remote != TOKEN and not source.exists():
            yield Diagnosis("error", place, f"{local} is not there", "run ray from the folder of the cluster file")
        elif source == path.parent.resolve():
            found = f"{local} is the whole project: Ray reads all of it, .venv and runs too, at every `ray up`"
            yield Diagnosis("warning", place, found, "mount the folders that the nodes need, as the shipped file does")
    key = written.get("auth", {}).get("ssh_private_key") if isinstance(written.get("auth"), dict) else None
    if isinstance(key, str) and not PLACEHOLDER.search(key):
        place = where(path, written, ["auth", "ssh_private_key"])
        file = expanded(key)
        if not file.is_file():
            yield Diagnosis("error", place, f"{key} is not there", "name the private key of the key pair")
        elif file.stat().st_mode & 0o077:
            yield Diagnosis("error", place, f"others on this machine can read {key}", f"chmod 600 {key}")


def where(path: Path, config: Any, keys: Sequence[str]) -> str:
    """Return "file:line" of the deepest of nested keys that is written there."""
    place = str(path)
    for key in keys:
        if not isinstance(config, Located) or key not in config.where:
            break
        place, config = config.where[key], config[key]
    return place


def plain(value: Any) -> Any:
    """Return settings as dicts and lists that nobody else holds."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value
