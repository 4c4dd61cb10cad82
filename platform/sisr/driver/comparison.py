"""A comparison in MLflow: a run of its own."""

import math
import re

from sisr.errors import RunLockedError
from sisr.evaluation.compare import Comparison
from sisr.evaluation.page import PAGE, RESULT
from sisr.tracking import courier
from sisr.tracking.outbox import Outbox

DELIVERY_S = 60.0  # how long MLflow may take; what has not arrived then, `sisr sync` delivers


def log(comparison: Comparison, tracking_uri: str | None, experiment: str | None) -> str:
    """Record a comparison as an MLflow run and deliver it; return a message for the user, or nothing."""
    try:
        with Outbox(comparison.folder) as outbox:
            _record(comparison, outbox)
    except RunLockedError as error:
        return f"not logged: {error}"
    return courier.start(comparison.folder, tracking_uri, experiment).finish(DELIVERY_S).message


def _record(comparison: Comparison, outbox: Outbox) -> None:
    content = comparison.content
    outbox.params({n: content[n] for n in ("data", "num_images", "protocol", "scale", "against")})
    verdicts = {row.model: row.verdict for row in comparison.rows}
    outbox.tags({"sisr.kind": "compare", "sisr.models": list(verdicts), "sisr.verdicts": verdicts})
    outbox.status("RUNNING")
    for place, row in enumerate(comparison.rows, 1):
        values = {**row.measured.mean, "ms_per_image": row.ms}
        # What MLflow can write in a metric's name; places tell apart models whose names become alike.
        model = re.sub(r"[^A-Za-z0-9_.-]", "_", row.model)[-100:]
        outbox.metrics(0, {f"{place}_{model}/{name}": v for name, v in values.items() if math.isfinite(v)})
    for number, sheet in enumerate(comparison.sheets, 1):
        outbox.image(0, f"places/{number}", sheet)
    outbox.artifact(PAGE)
    outbox.artifact(RESULT)
    outbox.status("FINISHED")
