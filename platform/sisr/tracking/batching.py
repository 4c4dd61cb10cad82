"""Records of an outbox as requests that MLflow accepts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, RunTag

from sisr.tracking.outbox import records

Record = dict[str, Any]

# What MLflow accepts in one request, which may not exceed 1 MB either, and in one value.
LIMITS = {"metrics": 1000, "params": 100, "tags": 100}
MAX_BYTES = 500_000
MAX_PARAM, MAX_TAG = 6000, 8000  # characters


def groups(path: Path, offset: int) -> Iterator[tuple[list[Record], int]]:
    """Yield neighbouring records that fit into one request (none for a torn line), with the offset behind the last."""
    group: list[Record] = []
    start, values = offset, 0
    for row, end in records(path, offset):
        more = len((row or {}).get("values", ()))
        if group and (row is None or not _fits(row, group, values + more, end - start)):
            yield group, offset
            group, start, values = [], offset, 0
        offset, values = end, values + more
        if row is None:
            yield [], offset
        else:
            group.append(row)
    if group:
        yield group, offset


def _fits(row: Record, group: list[Record], values: int, size: int) -> bool:
    op = row["op"]
    return op == group[0]["op"] and op in LIMITS and values <= LIMITS[op] and size <= MAX_BYTES


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
