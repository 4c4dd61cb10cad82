"""What an examination says of one thing: how it is, and what to do about it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Diagnosis:
    """One thing that was looked at."""

    level: Level  # ok; warning: works, but will disappoint; error: must be changed first
    what: str  # what was looked at, or where: "disk", "cluster.yaml:12"
    found: str  # in words
    remedy: str = ""  # what would be right; empty where nothing need be done


def errors(diagnoses: Iterable[Diagnosis]) -> list[Diagnosis]:
    """Return those that must be dealt with."""
    return [one for one in diagnoses if one.level == "error"]
