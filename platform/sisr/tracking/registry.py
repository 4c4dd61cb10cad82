"""Generators in MLflow: logged as models that anybody can load, and fetched back as plain files."""

import contextlib
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import mlflow.artifacts
import mlflow.pyfunc
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric, Run
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from sisr.disk import cache
from sisr.errors import CheckpointError, DiskError, TrackingError
from sisr.tracking import address, shipment, store, upload
from sisr.tracking.redact import redact_text

WEIGHTS, CONFIG, RECIPE = "generator.safetensors", "config.json", "recipe.py"
NAME = "generator"
_UNVERSIONED = re.compile(r"models:/+((?!m-[0-9a-f]{32})[^/@]+)/?")
RECORD_TAG = "sisr.record"
SHA256_TAG = "sisr.sha256"


def log_generator(client: MlflowClient, run_id: str, folder: Path, key: str) -> str:
    """Make the generator in `folder` an MLflow model of a run and return the model's id.

    `key` names this very record: logging it again returns the model that is there.

    Raises:
        CheckpointError: The folder does not hold both generator.safetensors and config.json.
    """
    _check(folder)
    with upload.staged(folder.parent, folder.name) as public:
        return _log_public(client, run_id, public, key)


def _log_public(client: MlflowClient, run_id: str, folder: Path, key: str) -> str:
    run = client.get_run(run_id)
    known = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
    for model in [m for m in known if m.tags.get(RECORD_TAG) == key]:
        if model.status == LoggedModelStatus.READY:
            return str(model.model_id)
        client.delete_logged_model(model.model_id)  # a crash left it half uploaded
    tags = {RECORD_TAG: key, SHA256_TAG: json.dumps(file_hashes(folder))}
    created = client.create_logged_model(
        run.info.experiment_id, NAME, run_id, tags, run.data.params, model_type="super-resolution"
    )
    with tempfile.TemporaryDirectory() as temporary:
        save_generator(folder, Path(temporary) / "model", run_id=run_id, model_id=created.model_id)
        client.log_model_artifacts(created.model_id, str(Path(temporary) / "model"))
    _link(client, run, created.model_id)
    client.finalize_logged_model(created.model_id, "READY")
    return str(created.model_id)


def save_generator(folder: Path, path: Path, run_id: str | None = None, model_id: str | None = None) -> None:
    """Write the generator in `folder` as an MLflow model to the new folder `path`: files and code, no pickle.

    It has no signature, because MLflow's can't express that the input is either pixels or image files.
    """
    recipe = json.loads((folder / CONFIG).read_text()).get("recipe", "")
    with tempfile.TemporaryDirectory() as code:
        requirements = shipment.ship(recipe, folder.glob("*.py"), Path(code))
        mlflow.pyfunc.save_model(
            path,
            python_model=str(shipment.ENTRY),
            artifacts={"model": str(folder.resolve())},
            code_paths=[f"{code}/sisr"],
            signature=False,
            input_example=np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3),
            pip_requirements=requirements,
            mlflow_model=Model(run_id=run_id, model_uuid=model_id, model_id=model_id),
        )


def add_files(client: MlflowClient, model_id: str, files: Mapping[str, bytes]) -> None:
    """Put further files beside those of a logged model, replacing older ones of the same names."""
    with tempfile.TemporaryDirectory() as temporary:
        for name, content in files.items():
            (Path(temporary) / name).write_bytes(content)
        client.log_model_artifacts(model_id, temporary)


def file_hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that makes a model, by name, without secrets: what `sha256sum` says in MLflow."""
    present = [folder / name for name in (CONFIG, WEIGHTS, RECIPE) if name != RECIPE or (folder / name).is_file()]
    return {path.name: hashlib.sha256(upload.redacted(path) or path.read_bytes()).hexdigest() for path in present}


def download_model(uri: str, *, tracking_uri: str | None = None, runs: Path = Path("runs")) -> Path:
    """Return a folder with the generator.safetensors and config.json that an MLflow address names.

    Only these two files are used; no code or pickle of the model is loaded. A recipe.py that lies beside them is kept
    to be read, and runs only where its user says so; see `sisr.models`.

    Args:
        uri: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `models:/MODEL_ID`, `runs:/RUN_ID` or `runs:/RUN_ID/PATH`.
        tracking_uri: See `address.choose`.
        runs: See there.

    Raises:
        CheckpointError: There is no such model, or it isn't one of ours.
        DiskError: It can't be kept in the cache folder.
        TrackingError: The server does not answer.
    """
    server = address.choose(tracking_uri, runs)
    kept = cache.folder() / "models"
    try:
        kept.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiskError(f"can't keep models in {kept}: {error.strerror}; set SISR_CACHE") from error
    with tempfile.TemporaryDirectory(dir=kept) as temporary:
        _download(uri, server, temporary)
        found = sorted(Path(temporary).rglob(WEIGHTS), key=lambda path: len(path.parts))
        if not found:
            raise CheckpointError(f"{uri} holds no {WEIGHTS}: it isn't a model that sisr logged")
        return _keep(found[0].parent, kept)


def _download(uri: str, server: str, into: str) -> None:
    """Fetch what a model address names: only a generator's own files, where they are in the usual places."""
    try:
        places = list(_places(store.client(server), uri.rstrip("/")))
        for place in places[:-1]:
            with contextlib.suppress(MlflowException, OSError):
                mlflow.artifacts.download_artifacts(place, dst_path=into, tracking_uri=server)
                return
        mlflow.artifacts.download_artifacts(places[-1], dst_path=into, tracking_uri=server)
    except (MlflowException, OSError) as error:
        reason = redact_text(str(error).splitlines()[0] if str(error) else repr(error))
        gone = isinstance(error, MlflowException) and error.get_http_status_code() < 500
        if found := _UNVERSIONED.fullmatch(uri):
            reason = f"of a registered model name the version, as models:/{found[1]}@champion or models:/{found[1]}/1"
        if gone or isinstance(error, FileNotFoundError):
            raise CheckpointError(f"no model {uri} at {redact_text(server)}: {reason}") from error
        raise TrackingError(f"{redact_text(server)} can't be asked for {uri}: {reason}") from error


def _places(client: MlflowClient, uri: str) -> Iterator[str]:
    """Yield where the files of a model address may be stored, best guess first.

    MLflow's own download of `models:/` addresses asks the process-wide tracking server, whatever it is told.
    """
    scheme, _, rest = uri.partition(":/")
    name, _, path = rest.strip("/").partition("/")
    if scheme == "runs":
        run = client.get_run(name)
        yield f"{run.info.artifact_uri}/{path or NAME}"
        for output in [] if path else run.outputs.model_outputs:
            yield from _places(client, f"models:/{output.model_id}")
    elif scheme == "models" and path:
        yield from _places(client, client.get_model_version_download_uri(name, path))
    elif scheme == "models" and "@" in name:
        version = client.get_model_version_by_alias(*name.split("@", 1)).version
        yield from _places(client, f"models:/{name.split('@')[0]}/{version}")
    elif scheme == "models":
        location = client.get_logged_model(name).artifact_location
        yield f"{location}/artifacts/model"
        yield location
    elif scheme in ("file", "mlflow-artifacts", "s3", "gs") or not scheme:
        yield f"{uri}/artifacts/model"  # what older versions of a registered model may point to
        yield uri
    else:
        raise CheckpointError(
            f"{uri} names no model: expected models:/NAME@ALIAS, models:/NAME/VERSION or runs:/RUN_ID"
        )


def _keep(folder: Path, models: Path) -> Path:
    """Move the model's own files to a folder named after their content and return it."""
    _check(folder)
    files = [folder / WEIGHTS, folder / CONFIG, *folder.glob(RECIPE)]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
    kept = models / digest
    if not kept.is_dir():
        with tempfile.TemporaryDirectory(dir=models) as temporary:
            new = Path(temporary) / digest
            new.mkdir()
            for path in files:
                shutil.copyfile(path, new / path.name)
            with contextlib.suppress(OSError):  # another process was quicker
                new.rename(kept)
    return kept


def _check(folder: Path) -> None:
    for name in (WEIGHTS, CONFIG):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name} is missing")


def _link(client: MlflowClient, run: Run, model_id: str) -> None:
    """Make the model an output of its run, with the run's last validation as the model's own metrics."""
    run_id = run.info.run_id
    names = [name for name in run.data.metrics if name.startswith(("val/", "final/"))]
    last = [max(client.get_metric_history(run_id, name), key=lambda m: (m.step, m.timestamp)) for name in names]
    client.log_outputs(run_id, [LoggedModelOutput(model_id, max((m.step for m in last), default=0))])
    linked = [Metric(m.key, m.value, m.timestamp, m.step, model_id=model_id, run_id=run_id) for m in last]
    if linked:
        client.log_batch(run_id, metrics=linked)
