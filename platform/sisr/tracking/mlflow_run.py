"""The MLflow run that belongs to a run's outbox: one, whatever crashes and however often delivery starts anew."""

import os
import pwd
import uuid
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from sisr.errors import TrackingError
from sisr.tracking import views
from sisr.tracking.address import Address, artifact_location
from sisr.tracking.outbox import records

UID_TAG = "sisr.run_uid"


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
    return _create(client, experiment_id, opened, {MLFLOW_PARENT_RUN_ID: parent_id} if parent_id else {})


def check(client: MlflowClient, run_id: str) -> None:
    """Raise `TrackingError` if the run was deleted, and MLflow's own error if the server does not know it."""
    if client.get_run(run_id).info.lifecycle_stage != "active":
        raise TrackingError(
            f"MLflow run {run_id} was deleted: restore it there, or remove the run's mlflow.json and outbox.ack "
            "to deliver everything to a new experiment"
        )


def is_known(client: MlflowClient, run_id: str) -> bool:
    """Whether the server knows the run; raises `TrackingError` if the run was deleted."""
    try:
        check(client, run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True


def record_uuid(run_id: str | None, row: dict[str, Any]) -> str:
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
            return str(client.create_experiment(place.experiment, where, dict(views.TAGS)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another run's courier was quicker
                raise
            found = client.get_experiment_by_name(place.experiment)
    if found is None or found.lifecycle_stage != "active":
        raise TrackingError(f"MLflow experiment '{place.experiment}' was deleted: restore it, or use another name")
    return str(found.experiment_id)


def _create(client: MlflowClient, experiment_id: str, opened: dict[str, Any], more_tags: dict[str, str]) -> str:
    tags = {
        UID_TAG: opened["run_uid"],
        "mlflow.user": user_name(),
        "mlflow.source.name": "sisr",
        "mlflow.source.type": "LOCAL",
        **more_tags,
    }
    run = client.create_run(experiment_id, start_time=opened["t"], tags=tags, run_name=opened["run_name"])
    return str(run.info.run_id)
