"""Examines machines, image folders and cluster files before they cost time or money."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Diagnosis:
    """How one thing is that was looked at, and what to do about it."""

    level: Level  # ok; warning: works, but will disappoint; error: must be changed first
    what: str  # what was looked at, or where: "disk", "cluster.yaml:12"
    found: str  # in words
    remedy: str = ""  # what would be right; empty where nothing need be done
