"""The best runs of an MLflow experiment."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from sisr.config.wording import did_you_mean
from sisr.errors import ConfigError
from sisr.metrics.catalogue import Mode
from sisr.tracking import address
from sisr.tracking.selection import asking


@dataclass(frozen=True)
class BestRun:
    """A run that came to its end."""

    name: str
    value: float  # of the metric that it was chosen by
    model: str  # what names its model: its folder where that is on this machine, else runs:/ID


def best_runs(
    experiment: str, metric: str, mode: Mode, top: int, *, tracking_uri: str | None = None, runs: Path = Path("runs")
) -> list[BestRun]:
    """Return the `top` best runs of an experiment on a server as models that can be opened; see `ranked`.

    Args:
        experiment: See `ranked`; so are `metric` and `mode`, and what else is raised.
        metric: See there.
        mode: See there.
        top: At most so many.
        tracking_uri: The server; `None`: `MLFLOW_TRACKING_URI`, else the SQLite file in `runs`.
        runs: The folder that holds the runs.

    Raises:
        TrackingError: The server does not answer.
    """
    with asking(address.choose(tracking_uri, runs)) as client:
        return _named(ranked(client, experiment, metric, mode)[:top], metric)


def ranked(client: MlflowClient, experiment: str, metric: str, mode: Mode) -> list[Run]:
    """Return an experiment's finished runs and sweep trials, the best first; of equal ones the earliest.

    Args:
        client: Speaks to the server.
        experiment: MLflow's name of it.
        metric: The last value counts. Runs without it, or with one that is not finite, are skipped.
        mode: Whether more or less of it is better.

    Raises:
        ConfigError: There is no such experiment, or no finished run that has the metric.
    """
    finished = [run for run in _all_runs(client, experiment) if _is_finished(run)]
    found = [run for run in finished if math.isfinite(run.data.metrics.get(metric, math.nan))]
    if not found:
        raise ConfigError(_no_metric(experiment, metric, finished))
    sign = -1 if mode == "max" else 1
    return sorted(found, key=lambda run: (sign * run.data.metrics[metric], run.info.start_time))


def _all_runs(client: MlflowClient, experiment: str) -> Iterator[Run]:
    found = client.get_experiment_by_name(experiment)
    if found is None:
        known = sorted(e.name for e in client.search_experiments())
        raise ConfigError(
            f"no experiment '{experiment}'; {did_you_mean(experiment, known) or 'there are ' + ', '.join(known)}"
        )
    token = None
    while True:
        page = client.search_runs([found.experiment_id], page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _is_finished(run: Run) -> bool:
    """Whether it is a run or trial, not a sweep or comparison, that came to its own end."""
    tags = run.data.tags
    return tags.get("sisr.state") == "finished" and tags.get("sisr.kind") not in ("sweep", "compare")


def _no_metric(experiment: str, metric: str, finished: list[Run]) -> str:
    if not finished:
        return f"experiment '{experiment}' has no finished run"
    known = sorted({name for run in finished for name in run.data.metrics if name.startswith(("final/", "val/"))})
    hint = did_you_mean(metric, known) or f"there are {', '.join(known) or 'none'}"
    return (
        f"none of the {len(finished)} finished runs in experiment '{experiment}' has a finite metric '{metric}'; {hint}"
    )


def _named(found: list[Run], metric: str) -> list[BestRun]:
    """Return the runs under names of which no two are equal."""
    names = [str(run.info.run_name) for run in found]
    result = []
    for run, name in zip(found, names, strict=True):
        folder = Path(run.data.tags.get("sisr.folder", ""))
        model = str(folder) if (folder / "run.json").is_file() else f"runs:/{run.info.run_id}"
        unique = name if names.count(name) == 1 else f"{name} {run.info.run_id[:8]}"
        result.append(BestRun(unique, run.data.metrics[metric], model))
    return result
