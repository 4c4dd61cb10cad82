"""A comparison in MLflow: a run of its own."""

import math

from sisr.errors import RunLockedError
from sisr.evaluation.compare import Comparison
from sisr.tracking import courier
from sisr.tracking.outbox import Outbox

DELIVERY_S = 60.0  # how long MLflow may take; what has not arrived then, `sisr sync` delivers


def log(comparison: Comparison, tracking_uri: str | None, experiment: str | None) -> str:
    """Record a comparison as an MLflow run and deliver it; return a message for the user, or nothing."""
    folder = comparison.files.folder
    try:
        with Outbox(folder) as outbox:
            _record(comparison, outbox)
    except RunLockedError as error:
        return f"not logged: {error}"
    return courier.start(folder, tracking_uri, experiment).finish(DELIVERY_S).message


def _record(comparison: Comparison, outbox: Outbox) -> None:
    content, files = comparison.content, comparison.files
    outbox.params({n: content[n] for n in ("data", "num_images", "protocol", "scale", "against")})
    verdicts = {row.model: row.verdict for row in comparison.rows}
    outbox.tags({"sisr.kind": "compare", "sisr.models": list(verdicts), "sisr.verdicts": verdicts})
    outbox.status("RUNNING")
    for place, row in enumerate(comparison.rows):
        values = {**row.measured.mean, "ms_per_image": row.ms}
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        outbox.metrics(0, {f"{_metric_prefix(row.model, place)}/{name}": value for name, value in finite.items()})
    for number, sheet in enumerate(files.sheets):
        outbox.image(0, f"places/{number + 1}", sheet)
    outbox.artifact(files.page)
    outbox.artifact(files.result)
    outbox.status("FINISHED")


def _metric_prefix(model: str, place: int) -> str:
    """Return a model's name as MLflow can write it in a metric's, told apart from the others by its place."""
    letters = "".join(c if c.isascii() and (c.isalnum() or c in "_-.") else "_" for c in model)
    return f"{place + 1}_{letters[-100:]}"
