"""The run whose model is to be registered, with the model's files: fetched from MLflow and verified."""

import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus, Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from sisr.disk.run_folder import RECORD
from sisr.errors import CheckpointError, ConfigError
from sisr.models.files import find_model
from sisr.tracking import registry, selection
from sisr.tracking.redact import redact_text

MANIFEST = "manifest.json"  # beside a checkpoint's files: what their SHA-256 must be


@dataclass(frozen=True)
class Candidate:
    """A run and its model, as MLflow holds it."""

    run: Run
    model_id: str
    files: Path  # a folder with the model's files, fetched from MLflow
    record: dict[str, Any]  # run.json: settings, images, code and versions; empty where MLflow holds none
    picture: bytes | None  # PNG of the run's last sample picture
    image_hashes: Callable[[], dict[str, str]] = dict  # fetches files.json: SHA-256 of the run's image files, by name

    @property
    def name(self) -> str:
        """The run's name."""
        return str(self.run.info.run_name)

    @property
    def sha256(self) -> dict[str, str]:
        """The SHA-256 of each of the model's files."""
        return registry.file_hashes(self.files)


def fetch(client: MlflowClient, server: str, run_id: str, runs: Path) -> Candidate:
    """Return a run with its model's files, fetched from MLflow and verified.

    Raises:
        CheckpointError: It has no model, or the files are not those that were recorded.
        ConfigError: There is no such run.
    """
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise ConfigError(f"no run {run_id} in MLflow at {redact_text(server)}") from error
        raise
    here = selection.folder_of(run, runs)
    model = _newest_model(client, run) or _log(client, run, here)
    files = registry.download_model(f"models:/{model.model_id}", tracking_uri=server, runs=runs)
    _verify(model, files, here)
    return Candidate(
        run,
        str(model.model_id),
        files,
        record=record_of(client, run_id),
        picture=_last_picture(client, run_id),
        image_hashes=lambda: image_hashes(client, run),
    )


def run_behind(client: MlflowClient, spec: str) -> Run | None:
    """Return the run that made the model which an address in MLflow names; None where that is not known.

    `spec` is an address as `registry.download_model` takes it.
    """
    scheme, _, rest = spec.partition(":/")
    name, _, version = rest.strip("/").partition("/")
    try:
        if scheme == "runs":
            return client.get_run(name)
        if "@" in name:
            run_id = client.get_model_version_by_alias(*name.split("@", 1)).run_id
        elif version:
            run_id = client.get_model_version(name, version).run_id
        else:
            run_id = client.get_logged_model(name).source_run_id
        return client.get_run(run_id) if run_id else None
    except MlflowException as error:
        if error.get_http_status_code() not in (400, 404):  # 400: a model without this alias
            raise
        return None


def record_of(client: MlflowClient, run_id: str) -> dict[str, Any]:
    """Return a run's run.json; empty where MLflow holds none."""
    return dict(json.loads(_artifact(client, run_id, RECORD) or b"{}"))


def _newest_model(client: MlflowClient, run: Run) -> LoggedModel | None:
    found = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
    ready = [model for model in found if model.status == LoggedModelStatus.READY]
    return max(ready, key=lambda model: model.creation_timestamp, default=None)


def _log(client: MlflowClient, run: Run, folder: Path | None) -> LoggedModel:
    """Log the model of a run that logs none itself, such as a sweep's trial, from its folder."""
    if folder is None:
        raise CheckpointError(f"run {run.info.run_name} has no model in MLflow, and its folder is not on this machine")
    source = find_model(str(folder), folder.parent)
    hashes, manifest = registry.file_hashes(source), source / MANIFEST
    listed = json.loads(manifest.read_text())["files"] if manifest.is_file() else {}
    _compare({name: entry["sha256"] for name, entry in listed.items()}, hashes, str(source), MANIFEST)
    key = f"register/{hashes[registry.WEIGHTS][:16]}"
    return client.get_logged_model(registry.log_generator(client, run.info.run_id, source, key))


def _artifact(client: MlflowClient, run_id: str, path: str) -> bytes | None:
    """Return the content of a run's artifact; None where there is none."""
    parent = path.rpartition("/")[0]
    if path not in [file.path for file in client.list_artifacts(run_id, parent or None)]:
        return None
    with tempfile.TemporaryDirectory() as folder:
        return Path(client.download_artifacts(run_id, path, folder)).read_bytes()


def image_hashes(client: MlflowClient, run: Run) -> dict[str, str]:
    """Return the SHA-256 of a run's image files, by name; those of a trial are with its sweep."""
    own: dict[str, str] = json.loads(_artifact(client, run.info.run_id, "files.json") or b"{}")
    sweep = run.data.tags.get(MLFLOW_PARENT_RUN_ID)
    if own or sweep is None:
        return own
    try:
        return dict(json.loads(_artifact(client, sweep, "files.json") or b"{}"))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}


def _last_picture(client: MlflowClient, run_id: str) -> bytes | None:
    paths = [file.path for file in client.list_artifacts(run_id, "images")]
    steps = [(int(found[1]), path) for path in paths if (found := re.search(r"\+step\+(\d+)\+.*\.png$", path))]
    return _artifact(client, run_id, max(steps)[1]) if steps else None


def _verify(model: LoggedModel, files: Path, folder: Path | None) -> None:
    """Compare what was fetched with what was recorded when it was logged, and with the run's folder."""
    found = registry.file_hashes(files)
    recorded = json.loads(model.tags.get(registry.SHA256_TAG, "{}"))
    _compare(recorded, found, f"model {model.model_id} in MLflow", "what was recorded when it was logged")
    if folder and (folder / "model" / registry.WEIGHTS).is_file():
        _compare(registry.file_hashes(folder / "model"), found, f"model {model.model_id} in MLflow", f"{folder}/model")


def _compare(expected: dict[str, str], found: dict[str, str], what: str, where: str) -> None:
    for name, sha256 in found.items():
        if expected.get(name, sha256) != sha256:
            raise CheckpointError(
                f"{what}: the SHA-256 of {name} is {sha256[:12]}..., but by {where} it is {expected[name][:12]}...: "
                "one of them was damaged or changed, and neither is registered"
            )
