"""How far a run's outbox has been delivered."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from sisr.disk import atomic
from sisr.disk.journal import rows
from sisr.tracking import outbox

FILE = "outbox.ack"


@dataclass(frozen=True)
class Progress:
    """What a server has acknowledged."""

    run_id: str | None  # the MLflow run that received it
    offset: int = 0  # bytes of the outbox file
    refused: int = 0  # records that the server never accepts, or whose files are gone


def read(run_dir: Path, run_id: str | None) -> Progress:
    """Return how far the MLflow run `run_id` has received the outbox; nothing yet if it is another run than before."""
    try:
        found = Progress(**json.loads((run_dir / FILE).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return Progress(run_id)
    return found if found.run_id == run_id and run_id is not None else Progress(run_id)


def write(run_dir: Path, progress: Progress) -> None:
    """Keep how far delivery came. Losing this to a crash only means delivering again what arrived already."""
    atomic.write_json(run_dir / FILE, asdict(progress))


def pending(run_dir: Path, run_id: str | None) -> int:
    """Return how many records the MLflow run `run_id` has not received yet."""
    path = run_dir / outbox.FILE
    if not path.is_file():
        return 0
    return sum(row is not None for row, _ in rows(path, read(run_dir, run_id).offset))
