"""Trying, before training, what recording a run will need: a run that says what it is for, and is removed again."""

from contextlib import suppress

from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from sisr.tracking import mlflow_run, store
from sisr.tracking.address import Address
from sisr.tracking.failures import FAILURES

NAME = "sisr-write-test"
FILE = "write-test.txt"
TAGS = {
    "sisr.kind": "write test",
    "mlflow.note.content": "Tries whether a run can be recorded, and is removed at once.",
}


def try_out(place: Address) -> None:
    """Create a run with a metric and a file in an experiment, and remove it.

    Raises:
        TrackingError: The experiment, or the run that is to go on, was deleted.
        Exception: One of `failures.FAILURES`: the server does not answer, or refuses one of these.
    """
    client = store.client(place.tracking_uri)
    experiment_id = mlflow_run.find_experiment(client, place)
    if place.run_id is not None:
        mlflow_run.is_known(client, place.run_id)
    run = client.create_run(experiment_id, run_name=NAME, tags=TAGS | {"mlflow.user": mlflow_run.user_name()})
    try:
        client.log_metric(run.info.run_id, "write_test", 1.0)
        client.log_text(run.info.run_id, "Can be deleted.\n", FILE)
    finally:
        with suppress(*FAILURES):  # which must not hide another error
            client.delete_run(run.info.run_id)
            get_artifact_repository(run.info.artifact_uri, place.tracking_uri).delete_artifacts()
