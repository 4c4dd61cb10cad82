"""Where a run's MLflow is: the tracking server or database, the artifacts, and what was agreed for this run before."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from sisr.disk import atomic
from sisr.disk.sweep_folder import sweep_of
from sisr.errors import TrackingError
from sisr.tracking.redact import HIDDEN, redact_text

FILE = "mlflow.json"

# For every process of ours that imports mlflow. A server that hangs costs seconds, not the default of four minutes.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
    "MLFLOW_UV_AUTO_DETECT": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


def export() -> None:
    """Set `ENVIRONMENT` for this process, where the user has not set it; call it before mlflow is imported."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


@dataclass(frozen=True)
class Address:
    """Where one run is recorded."""

    tracking_uri: str
    experiment: str
    run_id: str | None = None  # None until the run was created there


def default_uri(runs: Path) -> str:
    """Return the address of the SQLite file in the folder that holds the runs."""
    return f"sqlite:///{runs.resolve()}/mlflow.db"


def artifact_location(tracking_uri: str) -> str | None:
    """Return where an experiment keeps its artifacts, or `None` where a server decides.

    MLflow's own default for a SQLite file is a folder below the current one, wherever that happens to be.
    """
    if not tracking_uri.startswith("sqlite:///"):
        return None
    database = Path(tracking_uri.removeprefix("sqlite:///")).resolve()
    return (database.parent / "mlartifacts").as_uri()


def decide(run_dir: Path, tracking_uri: str | None = None, experiment: str | None = None) -> Address:
    """Return where a run is recorded: as asked for, else `MLFLOW_TRACKING_URI`, else as before, else beside the runs.

    A trial is recorded with its sweep.

    Args:
        run_dir: The run's folder.
        tracking_uri: Any MLflow tracking address; a relative SQLite path counts from the current folder.
        experiment: MLflow's experiment; "sisr" for a new run.

    Raises:
        TrackingError: The run was recorded at an address with a password, which is not kept, so it must be given again.
    """
    if (sweep := sweep_of(run_dir)) is not None:
        return of_trial(run_dir, decide(sweep, tracking_uri, experiment))
    before = read(run_dir)
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or (before and before.tracking_uri)
    uri = absolute(uri or default_uri(run_dir.resolve().parent))
    if HIDDEN in uri:
        raise TrackingError(f"{run_dir} was recorded at {uri}: give the whole address with --tracking-uri")
    name = experiment or (before.experiment if before else "sisr")
    return Address(uri, name, _run_there(before, uri))


def of_trial(run_dir: Path, sweep: Address) -> Address:
    """Return where a trial is recorded whose sweep is recorded at `sweep`, with the trial's own MLflow run there."""
    return Address(sweep.tracking_uri, sweep.experiment, _run_there(read(run_dir), sweep.tracking_uri))


def recorded(run_dir: Path) -> Address | None:
    """Return where a run, or the sweep of a trial, was recorded last; `None` for one that never was."""
    if (sweep := sweep_of(run_dir)) is None:
        return read(run_dir)
    place = read(sweep)
    return place and of_trial(run_dir, place)


def read(run_dir: Path) -> Address | None:
    """Return where the run was recorded last, passwords hidden; `None` for a run that never was."""
    try:
        return Address(**json.loads((run_dir / FILE).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def write(run_dir: Path, address: Address) -> None:
    """Keep where the run is recorded, without passwords."""
    atomic.write_json(run_dir / FILE, asdict(address) | {"tracking_uri": redact_text(address.tracking_uri)})


def _run_there(before: Address | None, uri: str) -> str | None:
    return before.run_id if before is not None and before.tracking_uri == redact_text(uri) else None


def absolute(uri: str) -> str:
    """Return a tracking address that does not depend on the current folder."""
    if not uri.startswith("sqlite:///"):
        return uri
    return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).resolve()}"
