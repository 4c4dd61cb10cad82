"""What MLflow's page shows first: for each experiment a table of its runs, best first, with the columns that matter.

MLflow keeps a view that somebody shares as a tag of the experiment, and shows it under an address that names the tag.
"""

import json
from collections.abc import Iterator

from mlflow import MlflowClient
from mlflow.entities import Experiment

from sisr.metrics.catalogue import ANY_DISTANCE, AT_VALIDATION, PSNR_Y
from sisr.tracking.address import COMPARISONS
from sisr.tracking.outbox import ENDED

KEY = "best-first"
MOST = 5  # experiments to begin with
WORKFLOW = "workflowType=machine_learning"  # else the page shows what it has for language models
COLUMNS = (
    *(f"metrics.`val/{metric.name}`" for metric in AT_VALIDATION if metric is not ANY_DISTANCE),
    f"tags.`{ENDED}`",
    "params.`learning_rate`",
    "params.`steps`",
    "tags.`sisr.recipe`",
)
VIEW = {"selectedColumns": COLUMNS, "orderByKey": COLUMNS[0], "orderByAsc": False}
OF_COMPARISONS = ("tags.`sisr.verdicts`", "params.`against`", "params.`data`", "params.`num_images`")
KIND = {
    # The page opens on runs, charts and models, instead of asking whether the experiment is about language models.
    "mlflow.experimentKind": "custom_model_development"
}
TAGS = {
    **KIND,
    # Charts that relate settings to one metric relate them to this one.
    "mlflow.experiment.primaryMetric.name": f"val/{PSNR_Y.name}",
    "mlflow.experiment.primaryMetric.greaterIsBetter": "True",
    f"mlflow.sharedViewState.{KEY}": json.dumps(VIEW),
}
TAGS_OF_COMPARISONS = {**KIND, f"mlflow.sharedViewState.{KEY}": json.dumps({"selectedColumns": OF_COMPARISONS})}


def tags_of(name: str) -> dict[str, str]:
    """Return the tags of an experiment of ours by which MLflow's page shows what is in it."""
    return dict(TAGS_OF_COMPARISONS if name.endswith(COMPARISONS) else TAGS)


def renew(client: MlflowClient, experiment: Experiment) -> None:
    """Let an experiment that an earlier version made be shown as those of this one; others' are left alone."""
    if f"mlflow.sharedViewState.{KEY}" in experiment.tags:
        for name, value in tags_of(experiment.name).items():
            if experiment.tags.get(name) != value:
                client.set_experiment_tag(experiment.experiment_id, name, value)


def links(client: MlflowClient, url: str) -> Iterator[tuple[str, str]]:
    """Yield names and addresses of what to begin with: the latest experiments' runs, then the registered models.

    `url` is the address of the server to which `client` speaks.
    """
    found = client.search_experiments(max_results=MOST, order_by=["last_update_time DESC"])
    for experiment in sorted(found, key=lambda one: one.name.endswith(COMPARISONS)):
        if client.search_runs([experiment.experiment_id], max_results=1):
            renew(client, experiment)
            view = f"viewStateShareKey={KEY}&" if f"mlflow.sharedViewState.{KEY}" in experiment.tags else ""
            name = f"runs of {experiment.name}"
            if experiment.name.endswith(COMPARISONS):
                name = f"comparisons of {experiment.name.removesuffix(COMPARISONS)}"
            yield name, f"{url}/#/experiments/{experiment.experiment_id}/runs?{view}{WORKFLOW}"
    if client.search_registered_models(max_results=1):
        yield "registered models", f"{url}/#/models?{WORKFLOW}"
