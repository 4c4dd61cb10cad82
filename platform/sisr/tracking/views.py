"""What MLflow's page shows first: for each experiment a table of its runs, best first, with the columns that matter.

MLflow keeps a view that somebody shares as a tag of the experiment, and shows it under an address that names the tag.
"""

import json
from collections.abc import Iterator

from mlflow import MlflowClient

from sisr.metrics.catalogue import ANY_DISTANCE, AT_VALIDATION, PSNR_Y

KEY = "best-first"
MOST = 5  # experiments to begin with
COLUMNS = (
    *(f"metrics.`final/{metric.name}`" for metric in AT_VALIDATION if metric is not ANY_DISTANCE),
    f"metrics.`val/{PSNR_Y.name}`",
    "params.`learning_rate`",
    "params.`steps`",
    "tags.`sisr.recipe`",
    "tags.`sisr.state`",
)
VIEW = {"selectedColumns": COLUMNS, "orderByKey": COLUMNS[0], "orderByAsc": False}
TAGS = {
    # The page opens on runs, charts and models, instead of asking whether the experiment is about language models.
    "mlflow.experimentKind": "custom_model_development",
    # Charts that relate settings to one metric relate them to this one.
    "mlflow.experiment.primaryMetric.name": f"val/{PSNR_Y.name}",
    "mlflow.experiment.primaryMetric.greaterIsBetter": "True",
    f"mlflow.sharedViewState.{KEY}": json.dumps(VIEW),
}


def links(client: MlflowClient, url: str) -> Iterator[tuple[str, str]]:
    """Yield names and addresses of what to begin with: the latest experiments' runs, then the registered models.

    `url` is the address of the server to which `client` speaks.
    """
    found = client.search_experiments(max_results=MOST, order_by=["last_update_time DESC"])
    for experiment in found:
        if TAGS.keys() <= experiment.tags.keys():
            runs = f"{url}/#/experiments/{experiment.experiment_id}/runs?viewStateShareKey={KEY}"
            yield f"runs of {experiment.name}", runs
    if client.search_registered_models(max_results=1):
        yield "registered models", f"{url}/#/models"
