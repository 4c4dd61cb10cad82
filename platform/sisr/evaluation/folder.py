"""The folder of one comparison, named after what was compared: the same comparison again has the same folder."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from sisr.disk import atomic
from sisr.evaluation.gallery import Place
from sisr.evaluation.page import page
from sisr.evaluation.pictures import contact_sheet
from sisr.evaluation.ranking import Ranked

PAGE, RESULT = "comparison.html", "comparison.json"


@dataclass(frozen=True)
class Files:
    """What a comparison wrote, by its path in the folder."""

    folder: Path
    page: str
    result: str
    sheets: list[str]  # one picture for each place


def name_of(identity: Any) -> str:
    """Return the name of the folder for a comparison of which `identity` (JSON) says all that its values depend on."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode("utf-8", "surrogateescape")).hexdigest()
    return f"compare-{digest[:10]}"


def digest_of(generator: nn.Module) -> str:
    """Return a number that says whether two generators are the same: kind, weights and their names."""
    digest = hashlib.sha256(type(generator).__name__.encode())
    for name, value in generator.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()


def write(
    folder: Path,
    result: dict[str, Any],
    rows: Sequence[Ranked],
    places: Sequence[Place],
    facts: Sequence[str],
    notes: Sequence[str],
) -> Files:
    """Write the page, the numbers and a picture for each place into `folder`, replacing older ones.

    Args:
        folder: Created where missing.
        result: What the JSON file holds; finite numbers only.
        rows: See `page`.
        places: See `page`.
        facts: See `page`.
        notes: See `page`.

    Raises:
        DiskError: It can't be written.
    """
    with atomic.file(folder / PAGE) as unfinished:
        # A file's name may be no text.
        unfinished.write_bytes(page(rows, places, facts, notes).encode("utf-8", "backslashreplace"))
    with atomic.file(folder / RESULT) as unfinished:
        unfinished.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    sheets = [f"places/{number}.png" for number in range(1, len(places) + 1)]
    for path, place in zip(sheets, places, strict=True):
        with atomic.file(folder / path) as unfinished:
            contact_sheet(place, [row.model for row in rows]).save(unfinished)
    return Files(folder, PAGE, RESULT, sheets)
