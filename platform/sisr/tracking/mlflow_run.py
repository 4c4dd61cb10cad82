"""The MLflow run that belongs to a run's outbox: one, whatever crashes and however often delivery starts anew.

And the outbox's records as requests that MLflow accepts.
"""

import os
import pwd
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from sisr.errors import TrackingError
from sisr.tracking import store, views
from sisr.tracking.address import Address, artifact_location
from sisr.tracking.failures import FAILURES
from sisr.tracking.outbox import records

Record = dict[str, Any]

UID_TAG = "sisr.run_uid"
# What MLflow accepts in one request, which may not exceed 1 MB either, and in one value.
LIMITS = {"metrics": 1000, "params": 100, "tags": 100}
MAX_BYTES = 500_000
MAX_PARAM, MAX_TAG = 6000, 8000  # characters


def find_or_create(client: MlflowClient, place: Address, outbox_path: Path, parent_id: str | None = None) -> str:
    """Return the id of the MLflow run for an outbox.

    Args:
        client: Speaks to `place`.
        place: Its run, if it has one and the server still knows it, is the answer.
        outbox_path: Its first record holds the tag by which a run is found whose id was not noted before a crash.
        parent_id: The MLflow run of the sweep, for a trial's run: MLflow's page shows it below that.

    Raises:
        TrackingError: The run or the experiment was deleted in MLflow, or the outbox does not say which run it is of.
    """
    if place.run_id is not None and is_known(client, place.run_id):
        return place.run_id
    opened = next((row for row, _ in records(outbox_path) if row is not None and row["op"] == "open"), None)
    if opened is None:
        raise TrackingError(f"{outbox_path} is damaged: no record in it says which run it is of")
    experiment_id = find_experiment(client, place)
    this_run = f"tags.`{UID_TAG}` = '{opened['run_uid']}'"
    for run in client.search_runs([experiment_id], this_run, ViewType.ALL, max_results=1):
        check(client, run.info.run_id)
        return str(run.info.run_id)
    tags = {
        UID_TAG: opened["run_uid"],
        "mlflow.user": user_name(),
        "mlflow.source.name": "sisr",
        "mlflow.source.type": "LOCAL",
        **({MLFLOW_PARENT_RUN_ID: parent_id} if parent_id else {}),
    }
    created = client.create_run(experiment_id, start_time=opened["t"], tags=tags, run_name=opened["run_name"])
    return str(created.info.run_id)


def check(client: MlflowClient, run_id: str) -> None:
    """Raise `TrackingError` if the run was deleted, and MLflow's own error if the server does not know it."""
    if client.get_run(run_id).info.lifecycle_stage != "active":
        raise TrackingError(
            f"MLflow run {run_id} was deleted: restore it there, or remove the run's mlflow.json and outbox.ack "
            "to deliver everything to a new experiment"
        )


def write_again(client: MlflowClient, run_id: str) -> None:
    """Write to the run what is there already; raises MLflow's own error if the server takes nothing at present."""
    client.set_tag(run_id, UID_TAG, client.get_run(run_id).data.tags[UID_TAG])


def is_known(client: MlflowClient, run_id: str) -> bool:
    """Whether the server knows the run; raises `TrackingError` if the run was deleted."""
    try:
        check(client, run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True


def record_uuid(run_id: str | None, row: Record) -> str:
    """Return an identifier of a record, the same each time it is delivered to the same MLflow run."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{run_id}/{row['n']}"))


def user_name() -> str:
    """Return who runs this; a container's user may have no name, only a number."""
    if name := os.environ.get("LOGNAME") or os.environ.get("USER"):
        return name
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def find_experiment(client: MlflowClient, place: Address) -> str:
    """Return the id of the experiment, which is created where there is none.

    Raises:
        TrackingError: It was deleted in MLflow.
    """
    found = client.get_experiment_by_name(place.experiment)
    if found is None:
        try:
            where = artifact_location(place.tracking_uri)
            return str(client.create_experiment(place.experiment, where, views.tags_of(place.experiment)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another run's courier was quicker
                raise
            found = client.get_experiment_by_name(place.experiment)
    if found is None or found.lifecycle_stage != "active":
        raise TrackingError(f"MLflow experiment '{place.experiment}' was deleted: restore it, or use another name")
    views.renew(client, found)
    return str(found.experiment_id)


def try_out(place: Address, *, write: bool) -> None:
    """Ask for an experiment; to `write`, also make it, create a run with a metric and a file in it, and remove that.

    Raises:
        TrackingError: The experiment, or the run that is to go on, was deleted.
        Exception: One of `failures.FAILURES`: the server does not answer, or refuses one of these.
    """
    client = store.client(place.tracking_uri)
    if place.run_id is not None:
        is_known(client, place.run_id)
    if not write:
        client.get_experiment_by_name(place.experiment)
        return
    experiment_id = find_experiment(client, place)
    tags = {
        "mlflow.user": user_name(),
        "sisr.kind": "write test",
        "mlflow.note.content": "Tries whether a run can be recorded, and is removed at once.",
    }
    run = client.create_run(experiment_id, run_name="sisr-write-test", tags=tags)
    try:
        client.log_metric(run.info.run_id, "write_test", 1.0)
        client.log_text(run.info.run_id, "Can be deleted.\n", "write-test.txt")
    finally:
        with suppress(*FAILURES):  # which must not hide another error
            client.delete_run(run.info.run_id)
            get_artifact_repository(run.info.artifact_uri, place.tracking_uri).delete_artifacts()


def groups(path: Path, offset: int) -> Iterator[tuple[list[Record], int]]:
    """Yield neighbouring records that fit into one request (none for a torn line), with the offset behind the last."""
    group: list[Record] = []
    start, values = offset, 0
    for row, end in records(path, offset):
        more = len((row or {}).get("values", ()))
        fits = row and group and row["op"] == group[0]["op"] and values + more <= LIMITS.get(row["op"], -1)
        if group and not (fits and end - start <= MAX_BYTES):
            yield group, offset
            group, start, values = [], offset, 0
        offset, values = end, values + more
        if row is None:
            yield [], offset
        else:
            group.append(row)
    if group:
        yield group, offset


def batches(group: list[Record]) -> Iterator[dict[str, list[Any]]]:
    """Yield one kind of records as arguments of `log_batch`; of several values of a tag the last stays."""
    op, limit = group[0]["op"], LIMITS[group[0]["op"]]
    entities: list[Any]
    if op == "metrics":
        entities = [Metric(k, v, row["t"], row["step"]) for row in group for k, v in row["values"].items()]
    else:
        values = {k: v for row in group for k, v in row["values"].items()}
        entities = [Param(k, v[:MAX_PARAM]) if op == "params" else RunTag(k, v[:MAX_TAG]) for k, v in values.items()]
    for first in range(0, len(entities), limit):
        yield {op: entities[first : first + limit]}
