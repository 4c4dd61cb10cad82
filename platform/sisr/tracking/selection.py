"""Which runs a person means: by folder, by id, or as an experiment's best; and a client of the server that has them."""

import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from sisr.config.wording import did_you_mean
from sisr.disk.run_folder import RECORD
from sisr.disk.sweep_folder import TRIALS
from sisr.errors import ConfigError, SisrError, TrackingError
from sisr.metrics.catalogue import Mode
from sisr.storage import ownership
from sisr.tracking import address, courier, store
from sisr.tracking.failures import FAILURES, why
from sisr.tracking.mlflow_run import UID_TAG
from sisr.tracking.outbox import FILE, FINAL, records
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
    for folder in (Path(spec), ownership.folder_of(spec, runs)):
        if spec and (folder / RECORD).is_file():
            return folder.resolve()
    if _RUN_ID.fullmatch(spec):
        return None
    raise ConfigError(
        f"no run '{spec}': neither a run's folder nor one in {runs}, nor an MLflow run's id (32 hexadecimal digits)"
    )


def folder_of(run: Run, runs: Path) -> Path | None:
    """Return the folder of a run or trial where it is on this machine, else None.

    A folder of runs that was moved or copied holds it under its name, which counts before the place that it once had:
    there the original may have gone on.
    """
    named = Path(run.data.tags.get("sisr.folder") or os.devnull)
    inside = runs.joinpath(*named.parts[-3 if named.parent.name == TRIALS else -1 :])
    if (inside / RECORD).is_file() and _run_uid(inside) == run.data.tags.get(UID_TAG):
        return inside
    return named if (named / RECORD).is_file() else None


def _run_uid(folder: Path) -> str | None:
    path = folder / FILE
    opened = (row for row, _ in records(path) if row is not None and row["op"] == "open") if path.is_file() else ()
    return next((str(row["run_uid"]) for row in opened), None)


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


@dataclass(frozen=True)
class BestRun:
    """A run that came to its end."""

    name: str  # of two runs never the same
    value: float  # of the metric that it was chosen by
    model: str  # what names its model: its folder where that is on this machine, else runs:/ID


def best_runs(
    experiment: str, metric: str, mode: Mode, top: int, *, tracking_uri: str | None = None, runs: Path = Path("runs")
) -> list[BestRun]:
    """Return the `top` best runs of an experiment on a server as models that can be opened; see `ranked`.

    The server is `MLFLOW_TRACKING_URI`'s where `tracking_uri` is `None`, else the SQLite file in `runs`.

    Raises:
        TrackingError: The server does not answer.
    """
    with asking(address.choose(tracking_uri, runs)) as client:
        found = ranked(client, experiment, metric, mode)[:top]
    names = [str(run.info.run_name) for run in found]
    result = []
    for run, name in zip(found, names, strict=True):
        folder = folder_of(run, runs)
        model = f"runs:/{run.info.run_id}" if folder is None else str(folder)
        unique = name if names.count(name) == 1 else f"{name} {run.info.run_id[:8]}"
        result.append(BestRun(unique, reported(run)[metric], model))
    return result


def ranked(client: MlflowClient, experiment: str, metric: str, mode: Mode) -> list[Run]:
    """Return an experiment's finished runs and sweep trials, the best first; of equal ones the earliest.

    The last value of `metric` counts. Runs without it, or with one that is not finite, are skipped.

    Raises:
        ConfigError: There is no such experiment, or no finished run that has the metric.
    """
    finished = [
        run
        for run in _all_runs(client, experiment)
        if run.data.tags.get("sisr.state") == "finished"
        and run.data.tags.get("sisr.kind") not in ("sweep", "compare")  # which are no models
    ]
    found = [run for run in finished if math.isfinite(reported(run).get(metric, math.nan))]
    if not found:
        raise ConfigError(_no_metric(experiment, metric, finished))
    sign = -1 if mode == "max" else 1
    return sorted(found, key=lambda run: (sign * reported(run)[metric], run.info.start_time))


def reported(run: Run) -> dict[str, float]:
    """Return the last value of each of a run's metrics, and as `final/NAME` what it measured at its end."""
    try:
        final = dict(json.loads(run.data.tags.get(FINAL, "{}")))
        values = {f"final/{name}": float(value) for name, value in final.items()}
    except (ValueError, TypeError):  # somebody changed the tag
        values = {}
    return {**run.data.metrics, **values}  # runs of version 0.1.0 have both among their metrics


def _all_runs(client: MlflowClient, experiment: str) -> Iterator[Run]:
    found = client.get_experiment_by_name(experiment)
    if found is None:
        known = sorted(e.name for e in client.search_experiments())
        raise ConfigError(
            f"no experiment '{experiment}'; {did_you_mean(experiment, known) or 'there are ' + ', '.join(known)}"
        )
    page = client.search_runs([found.experiment_id])
    yield from page
    while page.token:
        page = client.search_runs([found.experiment_id], page_token=page.token)
        yield from page


def _no_metric(experiment: str, metric: str, finished: list[Run]) -> str:
    if not finished:
        return f"experiment '{experiment}' has no finished run"
    known = sorted({name for run in finished for name in reported(run) if name.startswith(("final/", "val/"))})
    hint = did_you_mean(metric, known) or f"there are {', '.join(known) or 'none'}"
    return (
        f"none of the {len(finished)} finished runs in experiment '{experiment}' has a finite metric '{metric}'; {hint}"
    )
