"""The run whose model is to be registered: found by name or as the best of an experiment, its files verified."""

import json
import math
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus, Run
from mlflow.exceptions import MlflowException

from sisr import models
from sisr.errors import CheckpointError, ConfigError, SisrError, TrackingError
from sisr.suggest import did_you_mean
from sisr.tracking import address, courier, registry
from sisr.tracking.delivery import FAILURES, why
from sisr.tracking.redact import HIDDEN, redact_text

Mode = Literal["max", "min"]

MANIFEST = "manifest.json"  # beside a checkpoint's files: what their SHA-256 must be
_RUN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Candidate:
    """A run and its model, as MLflow holds it."""

    run: Run
    model_id: str
    files: Path  # a folder with the model's files, fetched from MLflow
    record: dict[str, Any]  # run.json: settings, images, code and versions; empty where MLflow holds none
    picture: bytes | None  # PNG of the run's last sample picture

    @property
    def name(self) -> str:
        """The run's name."""
        return str(self.run.info.run_name)

    @property
    def sha256(self) -> dict[str, str]:
        """The SHA-256 of each of the model's files."""
        return registry.file_hashes(self.files)


@contextmanager
def asking(server: str) -> Iterator[MlflowClient]:
    """Yield a client of an MLflow server or database.

    Raises:
        TrackingError: It does not answer, or refuses.
    """
    try:
        yield MlflowClient(server, registry_uri=server)
    except SisrError:
        raise
    except FAILURES as error:
        raise TrackingError(f"MLflow at {redact_text(server)}: {why(error)}") from error


def locate(spec: str, runs: Path) -> Path | None:
    """Return the folder of the run that `spec` names; None where it is the id of an MLflow run.

    Raises:
        ConfigError: It is neither.
    """
    for folder in (Path(spec), runs / spec):
        if spec and (folder / "run.json").is_file():
            return folder.resolve()
    if _RUN_ID.fullmatch(spec):
        return None
    raise ConfigError(
        f"no run '{spec}': neither a run's folder nor one in {runs}, nor an MLflow run's id (32 hexadecimal digits)"
    )


def server_of(tracking_uri: str | None, runs: Path, folder: Path | None) -> str:
    """Return where to register: as asked for, else `MLFLOW_TRACKING_URI`, else where the run is, else beside the runs.

    Raises:
        ConfigError: The run was recorded at an address with a password, which must be given again.
    """
    before = address.read(folder) if folder else None
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or (before and before.tracking_uri)
    uri = address.absolute(uri or address.default_uri(runs))
    if HIDDEN in uri:
        raise ConfigError(f"{folder} was recorded at {uri}: give the whole address with --tracking-uri")
    return uri


def delivered(folder: Path, server: str) -> str:
    """Return the id of the MLflow run of a run's folder, after delivering what is still in its outbox.

    Raises:
        TrackingError: Not everything can be delivered.
    """
    report = courier.deliver(folder, server)
    place = address.read(folder)
    if not report.delivered or place is None or place.run_id is None:
        reason = report.message or f"{folder / 'outbox.jsonl'} is empty"
        raise TrackingError(f"run {folder.name} is not in MLflow: {reason}")
    return place.run_id


def best(client: MlflowClient, experiment: str, metric: str, mode: Mode) -> Run:
    """Return an experiment's best finished run or sweep trial; of equal ones, the earliest.

    Raises:
        ConfigError: There is no such experiment, or no finished run that has the metric.
    """
    found = client.get_experiment_by_name(experiment)
    if found is None:
        known = [e.name for e in client.search_experiments()]
        hint = did_you_mean(experiment, known) or f"there are {', '.join(sorted(known))}"
        raise ConfigError(f"no experiment '{experiment}'; {hint}")
    runs = [run for run in _all_runs(client, found.experiment_id) if _is_finished(run)]
    ranked = [run for run in runs if math.isfinite(run.data.metrics.get(metric, math.nan))]
    if not ranked:
        raise ConfigError(_no_metric(experiment, metric, runs))
    sign = 1 if mode == "max" else -1
    return max(ranked, key=lambda run: (sign * run.data.metrics[metric], -run.info.start_time))


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
    folder = Path(run.data.tags.get("sisr.folder", ""))
    here = folder if (folder / "run.json").is_file() else None
    model = _newest_model(client, run) or _log(client, run, here)
    files = registry.download_model(f"models:/{model.model_id}", tracking_uri=server, runs=runs)
    _verify(model, files, here)
    record = _artifact(client, run_id, "run.json")
    return Candidate(run, str(model.model_id), files, json.loads(record or b"{}"), _last_picture(client, run_id))


def _all_runs(client: MlflowClient, experiment_id: str) -> Iterator[Run]:
    page = client.search_runs([experiment_id])
    yield from page
    while page.token:
        page = client.search_runs([experiment_id], page_token=page.token)
        yield from page


def _is_finished(run: Run) -> bool:
    """Whether it is a run or trial, not a sweep, that came to its own end."""
    return run.data.tags.get("sisr.state") == "finished" and run.data.tags.get("sisr.kind") != "sweep"


def _no_metric(experiment: str, metric: str, runs: list[Run]) -> str:
    if not runs:
        return f"experiment '{experiment}' has no finished run"
    known = sorted({name for run in runs for name in run.data.metrics if name.startswith(("final/", "val/"))})
    hint = did_you_mean(metric, known) or f"there are {', '.join(known) or 'none'}"
    return f"none of the {len(runs)} finished runs in experiment '{experiment}' has a finite metric '{metric}'; {hint}"


def _newest_model(client: MlflowClient, run: Run) -> LoggedModel | None:
    found = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
    ready = [model for model in found if model.status == LoggedModelStatus.READY]
    return max(ready, key=lambda model: model.creation_timestamp, default=None)


def _log(client: MlflowClient, run: Run, folder: Path | None) -> LoggedModel:
    """Log the model of a run that logs none itself, such as a sweep's trial, from its folder."""
    if folder is None:
        raise CheckpointError(f"run {run.info.run_name} has no model in MLflow, and its folder is not on this machine")
    source = models.find(str(folder), folder.parent)
    hashes = registry.file_hashes(source)
    _compare(_manifest(source), hashes, str(source), MANIFEST)
    key = f"register/{hashes[registry.WEIGHTS][:16]}"
    return client.get_logged_model(registry.log_generator(client, run.info.run_id, source, key))


def _manifest(folder: Path) -> dict[str, str]:
    if not (folder / MANIFEST).is_file():
        return {}
    listed: dict[str, Any] = json.loads((folder / MANIFEST).read_text())["files"]
    return {name: entry["sha256"] for name, entry in listed.items()}


def _artifact(client: MlflowClient, run_id: str, path: str) -> bytes | None:
    """Return the content of a run's artifact; None where there is none."""
    parent = path.rpartition("/")[0]
    if path not in [file.path for file in client.list_artifacts(run_id, parent or None)]:
        return None
    with tempfile.TemporaryDirectory() as folder:
        return Path(client.download_artifacts(run_id, path, folder)).read_bytes()


def _last_picture(client: MlflowClient, run_id: str) -> bytes | None:
    found = [
        (re.search(r"\+step\+(\d+)\+.*\.png$", file.path), file.path)
        for file in client.list_artifacts(run_id, "images")
    ]
    steps = [(int(match[1]), path) for match, path in found if match]
    return _artifact(client, run_id, max(steps)[1]) if steps else None


def _verify(model: LoggedModel, files: Path, folder: Path | None) -> None:
    """Compare what was fetched with what was recorded when it was logged, and with the run's folder."""
    found = registry.file_hashes(files)
    recorded = json.loads(model.tags.get(registry.SHA256_TAG, "{}"))
    _compare(recorded, found, f"model {model.model_id} in MLflow", "what was recorded when it was logged")
    if folder and (folder / "model" / registry.WEIGHTS).is_file():
        _compare(registry.file_hashes(folder / "model"), found, f"model {model.model_id} in MLflow", f"{folder}/model")


def _compare(wanted: dict[str, str], found: dict[str, str], what: str, where: str) -> None:
    for name, sha256 in found.items():
        if wanted.get(name, sha256) != sha256:
            raise CheckpointError(
                f"{what}: the SHA-256 of {name} is {sha256[:12]}..., but by {where} it is {wanted[name][:12]}...: "
                "one of them was damaged or changed, and neither is registered"
            )
