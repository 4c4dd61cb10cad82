"""A model as it is served: its files and what it is called. Who only passes it on needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Release:
    """A version of a model, complete: it can be sent to another machine and used there."""

    name: str  # of the registered model, else of the run or folder
    version: str  # in the registry, else the beginning of the weights' SHA-256
    weights: str  # the name of the file that holds them
    files: Mapping[str, bytes]  # by name
