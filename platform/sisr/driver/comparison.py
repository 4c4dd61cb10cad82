"""A comparison in MLflow: a run of its own."""

import re

from sisr.errors import RunLockedError
from sisr.evaluation.compare import Comparison
from sisr.evaluation.page import PAGE, RESULT, cells, columns
from sisr.tracking import courier
from sisr.tracking.address import COMPARISONS, EXPERIMENT
from sisr.tracking.outbox import Outbox

DELIVERY_S = 60.0  # how long MLflow may take; what has not arrived then, `sisr sync` delivers


def log(comparison: Comparison, tracking_uri: str | None, experiment: str | None) -> str:
    """Record a comparison as an MLflow run and deliver it; return a message for the user, or nothing.

    Comparisons are no runs: they have an experiment of their own beside that of the models, `experiment`.
    """
    try:
        with Outbox(comparison.folder) as outbox:
            _record(comparison, outbox)
    except RunLockedError as error:
        return f"not logged: {error}"
    beside = (experiment or EXPERIMENT) + COMPARISONS
    return courier.start(comparison.folder, tracking_uri, beside).finish(DELIVERY_S).message


def _record(comparison: Comparison, outbox: Outbox) -> None:
    content = comparison.content
    outbox.params({n: content[n] for n in ("data", "num_images", "protocol", "scale", "against")})
    verdicts = {row.model: row.verdict for row in comparison.rows}
    outbox.tags({"sisr.kind": "compare", "sisr.models": list(verdicts), "sisr.verdicts": verdicts})
    outbox.status("RUNNING")
    for place, row in enumerate(comparison.rows, 1):
        # What MLflow can write in a tag's name; places tell apart models whose names become alike. No metrics: MLflow
        # would draw a chart of each value.
        model = re.sub(r"[^A-Za-z0-9_.-]", "_", row.model)[-100:]
        outbox.tags({f"{place}_{model}": dict(zip(columns(comparison.rows)[1:], cells(row)[1:], strict=True))})
    for number, sheet in enumerate(comparison.sheets, 1):
        outbox.image(0, f"places/{number}", sheet)
    outbox.artifact(PAGE)
    outbox.artifact(RESULT)
    outbox.status("FINISHED")
