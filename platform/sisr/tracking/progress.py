"""How far a run's outbox has been delivered."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from sisr.disk.atomic import write_json
from sisr.tracking import outbox

FILE = "outbox.ack"


@dataclass(frozen=True)
class Acknowledged:
    """What a server has acknowledged."""

    run_id: str | None  # the MLflow run that received it
    offset: int = 0  # bytes of the outbox file
    refused: int = 0  # records that the server never accepts, or whose files are gone
    waiting: tuple[int, ...] = ()  # offsets of earlier records whose files could not be stored yet
    tries: int = 0  # how often the server broke over the records at `offset`


def read(run_dir: Path, run_id: str | None) -> Acknowledged:
    """Return how far the MLflow run `run_id` has received the outbox; nothing yet if it is another run than before."""
    try:
        found = dict(json.loads((run_dir / FILE).read_text()))
        # Earlier versions had no `waiting` and no `tries`.
        offset, refused, tries = (max(int(found.get(name, 0)), 0) for name in ("offset", "refused", "tries"))
        waiting = tuple(map(int, found.get("waiting", ())))
    except (FileNotFoundError, ValueError, TypeError):
        return Acknowledged(run_id)
    if found.get("run_id") != run_id or run_id is None:
        return Acknowledged(run_id)
    return Acknowledged(run_id, offset, refused, waiting, tries)


def write(run_dir: Path, progress: Acknowledged) -> None:
    """Keep how far delivery came. Losing this to a crash only means delivering again what arrived already."""
    write_json(run_dir / FILE, asdict(progress))


def pending(run_dir: Path, run_id: str | None) -> int:
    """Return how many records the MLflow run `run_id` has not received yet."""
    path = run_dir / outbox.FILE
    if not path.is_file():
        return 0
    reached = read(run_dir, run_id)
    return len(reached.waiting) + sum(row is not None for row, _ in outbox.records(path, reached.offset))
