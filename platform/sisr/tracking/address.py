"""Where a run's MLflow is: the tracking server or database, the artifacts, and what was agreed for this run before.

Without any choice of its user a run is recorded in the embedded store: the SQLite file `mlflow.db` and the folder
`mlartifacts` beside the runs. That is kept as "beside the runs", not as a path, so that the folder of runs can be moved
or copied. Any other address is used only where this user has named it on this machine: an address that comes with a
folder of somebody else's would be sent the user's files and MLflow credentials.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from sisr.disk.atomic import write_json
from sisr.disk.sweep_folder import sweep_of
from sisr.errors import TrackingError
from sisr.models import trust
from sisr.tracking.redact import HIDDEN, redact_text

FILE = "mlflow.json"
FORMAT = 2  # 1 (it had no number) kept the embedded store's path
SQLITE = "sqlite:///"
DATABASE = "mlflow.db"
EXPERIMENT = "sisr"
COMPARISONS = "-comparisons"  # ends the name of an experiment that holds comparisons of models instead of runs
TRUSTED_AS = "MLflow server"  # as which `sisr.models.trust` knows an address

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
    """Return the address of the embedded store: the SQLite file in the folder that holds the runs."""
    return f"{SQLITE}{runs.resolve()}/{DATABASE}"


def database(tracking_uri: str) -> Path | None:
    """Return the file of a SQLite address; `None` for any other address."""
    return Path(tracking_uri.removeprefix(SQLITE)).resolve() if tracking_uri.startswith(SQLITE) else None


def artifact_location(tracking_uri: str) -> str | None:
    """Return where an experiment keeps its artifacts, or `None` where a server decides.

    MLflow's own default for a SQLite file is a folder below the current one, wherever that happens to be.
    """
    file = database(tracking_uri)
    return None if file is None else (file.parent / "mlartifacts").as_uri()


def choose(tracking_uri: str | None, runs: Path, run_dir: Path | None = None) -> str:
    """Return an MLflow address: as asked for, else `MLFLOW_TRACKING_URI`, else the run's last one, else the embedded.

    A relative SQLite path counts from the current folder; `run_dir` is the run whose last address counts.

    Raises:
        TrackingError: The run was recorded at an address that its user must confirm: its password is not kept, or it
            was never named on this machine.
    """
    embedded = default_uri(runs)
    if named := tracking_uri or os.environ.get("MLFLOW_TRACKING_URI"):
        uri = f"{SQLITE}{file}" if (file := database(named)) else named
        if uri != embedded:
            trust.remember(TRUSTED_AS, uri, redact_text(uri))
        return uri
    before = read(run_dir) if run_dir else None
    if run_dir is None or before is None:
        return embedded
    if before.tracking_uri in (embedded, default_uri(runs_of(run_dir))):
        return before.tracking_uri
    if HIDDEN in before.tracking_uri:
        raise TrackingError(f"{run_dir} was recorded at {before.tracking_uri}: give the whole address: --tracking-uri")
    if not trust.is_trusted(TRUSTED_AS, before.tracking_uri):
        raise TrackingError(
            f"{run_dir} names the tracking server {before.tracking_uri}, which you have not named on this machine yet: "
            f"if the run's files and your MLflow credentials may go there, say --tracking-uri {before.tracking_uri}"
        )
    return before.tracking_uri


def decide(run_dir: Path, tracking_uri: str | None = None, experiment: str | None = None) -> Address:
    """Return where a run is recorded, a trial with its sweep; see `choose`, also for what is raised.

    `experiment` is as before where it is `None`, and "sisr" for a new run.
    """
    if (sweep := sweep_of(run_dir)) is not None:
        return of_trial(run_dir, decide(sweep, tracking_uri, experiment))
    return at(run_dir, choose(tracking_uri, run_dir.resolve().parent, run_dir), experiment)


def at(run_dir: Path, uri: str, experiment: str | None = None) -> Address:
    """Return where a run is recorded, given the server, with its own MLflow run there; `experiment` as in `decide`."""
    before = read(run_dir) or Address("", EXPERIMENT)
    there = before.tracking_uri == redact_text(uri)
    return Address(uri, experiment or before.experiment, before.run_id if there else None)


def of_trial(run_dir: Path, sweep: Address) -> Address:
    """Return where a trial is recorded whose sweep is recorded at `sweep`, with the trial's own MLflow run there."""
    return at(run_dir, sweep.tracking_uri, sweep.experiment)


def recorded(run_dir: Path) -> Address | None:
    """Return where a run, or the sweep of a trial, was recorded last; `None` for one that never was."""
    if (sweep := sweep_of(run_dir)) is None:
        return read(run_dir)
    place = read(sweep)
    return place and of_trial(run_dir, place)


def read(run_dir: Path) -> Address | None:
    """Return where the run was recorded last, passwords hidden; `None` for a run that never was."""
    try:
        found = dict(json.loads((run_dir / FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    uri, experiment, run_id = (found.get(name) for name in ("tracking_uri", "experiment", "run_id"))
    if not isinstance(uri, str | None) or not isinstance(experiment, str) or not isinstance(run_id, str | None):
        return None
    runs = runs_of(run_dir)
    if uri is None or ("format" not in found and _was_embedded(uri, runs)):
        uri = default_uri(runs)
    return Address(uri, experiment, run_id)


def write(run_dir: Path, address: Address) -> None:
    """Keep where the run is recorded, without passwords."""
    embedded = address.tracking_uri == default_uri(runs_of(run_dir))
    uri = None if embedded else redact_text(address.tracking_uri)
    content = {"format": FORMAT, "tracking_uri": uri, "experiment": address.experiment, "run_id": address.run_id}
    write_json(run_dir / FILE, content)


def runs_of(run_dir: Path) -> Path:
    """Return the folder that holds the runs, also for a trial in its sweep's folder."""
    return (sweep_of(run_dir) or run_dir.resolve()).parent


def _was_embedded(uri: str, runs: Path) -> bool:
    """Whether format 1 means the embedded store by this path, of which the folder of runs was moved or copied away."""
    file = database(uri)
    return file is not None and file.name == DATABASE and ((runs / DATABASE).exists() or not file.exists())
