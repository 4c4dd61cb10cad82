"""Which run a person means by its folder or id, and which MLflow server holds it."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient

from sisr.errors import ConfigError, SisrError, TrackingError
from sisr.tracking import address, courier
from sisr.tracking.delivery import FAILURES, why
from sisr.tracking.redact import HIDDEN, redact_text

_RUN_ID = re.compile(r"[0-9a-f]{32}")


@contextmanager
def asking(server: str) -> Iterator[MlflowClient]:
    """Yield a client of an MLflow server or database; meanwhile it is the one of the whole process.

    A registry in a database asks the process-wide server, whatever its client was told, where a model's files are.

    Raises:
        TrackingError: It does not answer, or refuses.
    """
    try:
        with courier.exported({"MLFLOW_TRACKING_URI": server}):
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
