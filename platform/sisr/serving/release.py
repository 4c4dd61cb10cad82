"""A model as it is served: its files and what it is called. To pass it on takes no torch."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Release:
    """A version of a model, complete: it can be sent to another machine and used there."""

    name: str  # of the registered model, else of the run or folder
    version: str  # in the registry, else the beginning of the weights' SHA-256
    weights: str  # the name of the file that holds them
    files: Mapping[str, bytes]  # by name


class ReleaseStore:
    """Holds the release that replicas take when they start, whenever that is; in a light process of its own."""

    def __init__(self) -> None:
        self._release: Release | None = None  # where it was started anew: until `Service.mend`

    def put(self, release: Release) -> None:
        """Hold another release."""
        self._release = release

    def take(self) -> Release:
        """Return the release."""
        assert self._release is not None, "no release yet; Serve tries again"
        return self._release

    def version(self) -> str:
        """Return the release's version; empty where there is none."""
        return "" if self._release is None else self._release.version
