"""A cluster file examined before it costs money: Ray's own schema, unfilled placeholders, and what would be unsafe."""

import contextlib
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sisr.config.yaml import Located, read_yaml
from sisr.doctor import exposure
from sisr.doctor.diagnosis import Finding
from sisr.doctor.exposure import TOKEN
from sisr.errors import ConfigError

PLACEHOLDER = re.compile(r"FILL_IN_[A-Z0-9_]+")


def examine(path: Path) -> list[Finding]:
    """Return what was found in a file of Ray's cluster launcher.

    Raises:
        ConfigError: It can't be read, is not YAML, or is no cluster file at all.
    """
    written = read_yaml(path)
    if not isinstance(written.get("provider"), dict):
        raise ConfigError(f"{path}: no cluster file: it names no 'provider'")
    merged, findings = _prepared(path, written)
    findings = [*_placeholders(path), *findings, *_files(path, written)]
    if merged is not None:
        findings += exposure.examine(merged, lambda *keys: where(path, written, keys))
    return findings or [Finding("ok", str(path), "valid for Ray, and nothing unsafe was found")]


def _placeholders(path: Path) -> Iterator[Finding]:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        for name in PLACEHOLDER.findall(line.partition("#")[0]):
            yield Finding("error", f"{path}:{number}", f"{name} is not filled in", line.partition("#")[2].strip())


def _prepared(path: Path, written: Located) -> tuple[dict[str, Any] | None, list[Finding]]:
    """Return the configuration with Ray's defaults, some of which are unsafe, and what Ray's validation says of it.

    The configuration is None where Ray refuses it.
    """
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    said, merged = io.StringIO(), None
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            merged = dict(prepare_config(plain(written)))
            validate_config(merged)
    except ValidationError as error:
        keys = [str(key) for key in error.absolute_path]
        found = f"{'.'.join(keys) or 'the file'}: {error.message}"
        return None, [Finding("error", where(path, written, keys), found, "what Ray's schema of cluster files wants")]
    except (Exception, SystemExit) as error:  # Ray's own kinds, click's among them
        text = " ".join(f"{error} {said.getvalue()}".split()) or type(error).__name__
        return None, [Finding("error", str(path), f"Ray refuses it: {text}", "see cluster.yaml for one that works")]
    return merged, []


def _files(path: Path, written: Located) -> Iterator[Finding]:
    """Yield which files that `ray up` uses are missing or unwise; their paths count from the cluster file's folder."""
    mounts = written.get("file_mounts")
    for remote, local in mounts.items() if isinstance(mounts, dict) else ():
        place = where(path, written, ["file_mounts", remote])
        source = (path.parent / Path(str(local)).expanduser()).resolve()
        if remote != TOKEN and not source.exists():
            yield Finding("error", place, f"{local} is not there", "run ray from the folder of the cluster file")
        elif source == path.parent.resolve():
            found = f"{local} is the whole project: Ray reads all of it, .venv and runs too, at every `ray up`"
            yield Finding("warning", place, found, "mount the folders that the nodes need, as the shipped file does")
    key = written.get("auth", {}).get("ssh_private_key") if isinstance(written.get("auth"), dict) else None
    if isinstance(key, str) and not PLACEHOLDER.search(key):
        place = where(path, written, ["auth", "ssh_private_key"])
        file = Path(key).expanduser()
        if not file.is_file():
            yield Finding("error", place, f"{key} is not there", "name the private key of the key pair")
        elif file.stat().st_mode & 0o077:
            yield Finding("error", place, f"others on this machine can read {key}", f"chmod 600 {key}")


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
