"""The model of a service: a version of a registered one, and those that its alias moves to afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sisr.errors import CheckpointError, SisrError
from sisr.serving.release import Release
from sisr.terminal.console import note

if TYPE_CHECKING:
    from sisr.tracking.champion import Registered


class Replicas(Protocol):
    """What runs the replicas, such as `sisr.cluster.serve.Service`."""

    release: Release

    def replace(self, release: Release) -> None:
        """Serve another release."""

    def mend(self) -> None:
        """Bring all replicas to the release."""


def checked(files: Path, recipes: Sequence[str], name: str, version: str | None = None) -> Release:
    """Return a model's folder or weights file as it will be served, after it has enlarged a picture.

    The code of the files `recipes` may run; without a `version` that is the beginning of the weights' SHA-256.

    Raises:
        CheckpointError: It does not work.
    """
    import torch

    from sisr.serving.opening import open_release, read

    found = read(files, name, version)
    open_release(found, torch.device("cpu"), recipes)
    return found


@dataclass(frozen=True)
class ReleaseSource:
    """Where new versions come from."""

    registered: "Registered"
    recipes: Sequence[str]  # recipe files whose code may run

    def release(self, version: str) -> Release:
        """Return a version; errors as in `checked` and `registry.download_model`."""
        return checked(self.registered.fetch(version), self.recipes, self.registered.name, version)


class Following:
    """Keeps a service at the version that an alias names; without a source nothing moves."""

    def __init__(self, service: Replicas, source: ReleaseSource | None) -> None:
        self._service, self._source = service, source
        self._refused = ("", "")  # a version that does not work, and why
        self._trouble = ""  # what was reported last, and still holds

    def look(self) -> None:
        """Ask once where the alias is, and let the service follow if that version works."""
        try:
            self._service.mend()
            trouble = self._follow()
        except SisrError as error:  # whatever is wrong with a new version or MLflow, the old one is served
            trouble = str(error)
        if trouble and trouble != self._trouble:
            note(f"{trouble}; version {self._service.release.version} goes on")
        self._trouble = trouble

    def _follow(self) -> str:
        """Return what is still wrong, which may be nothing."""
        if self._source is None:
            return ""
        version = self._source.registered.version()
        if version == self._service.release.version:
            return ""
        if version == self._refused[0]:
            return self._refused[1]
        try:
            self._service.replace(self._source.release(version))
        except CheckpointError as error:
            self._refused = version, f"models:/{self._source.registered.name}/{version} is not served: {error}"
            return self._refused[1]
        note(f"serves {self._source.registered.name} version {version} from now on")
        return ""
