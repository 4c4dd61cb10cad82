"""Which run a person means by its folder or id, and a client of the server that holds it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient

from sisr.errors import ConfigError, SisrError, TrackingError
from sisr.tracking import address, courier, store
from sisr.tracking.failures import FAILURES, why
from sisr.tracking.redact import redact_text

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
            yield store.client(server)
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
