"""The service's model: the one it begins with, and those that an alias moves to afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sisr.cluster.serve import Service
    from sisr.serving.release import Release
    from sisr.tracking.alias import Registered


def first(spec: str, tracking_uri: str | None, runs: Path, recipes: Sequence[str]) -> "tuple[Release, Source | None]":
    """Return the model that `spec` names, checked, and where it comes from if that can change.

    Args:
        spec: What a person wrote.
        tracking_uri: MLflow's address; None: the usual one.
        runs: Folder that holds all runs.
        recipes: Recipe files whose code may run; see `models.RECIPE`.

    Raises:
        CheckpointError: There is no such model, or it does not work.
        TrackingError: The MLflow server does not answer.
    """
    from sisr.driver import models
    from sisr.tracking.alias import registered

    found = registered(spec, tracking_uri, runs)
    if found is not None:
        source = Source(found, recipes)
        return source.release(found.version()), source if found.alias else None
    return _checked(models.locate(spec, runs, tracking_uri), recipes, models.short(spec)), None


@dataclass(frozen=True)
class Source:
    """Where new versions come from."""

    registered: "Registered"
    recipes: Sequence[str]  # recipe files whose code may run

    def release(self, version: str) -> "Release":
        """Return a version, checked; errors as in `first`."""
        return _checked(self.registered.fetch(version), self.recipes, self.registered.name, version)


class Following:
    """Keeps a service at the version that an alias names.

    Args:
        service: What is kept up to date.
        source: None: nothing moves.
    """

    def __init__(self, service: "Service", source: Source | None) -> None:
        self._service, self._source = service, source
        self._refused = ("", "")  # a version that does not work, and why
        self._trouble = ""  # what was reported last, and still holds

    def look(self) -> None:
        """Ask once where the alias is, and let the service follow if that version works."""
        from sisr.errors import SisrError
        from sisr.terminal.console import err

        try:
            self._service.mend()
            trouble = self._follow()
        except SisrError as error:  # whatever is wrong with a new version or MLflow, the old one is served
            trouble = str(error)
        if trouble and trouble != self._trouble:
            err.print(f"{trouble}; version {self._service.release.version} goes on", markup=False)
        self._trouble = trouble

    def _follow(self) -> str:
        """Return what is still wrong, which may be nothing."""
        from sisr.errors import CheckpointError
        from sisr.terminal.console import err

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
        err.print(f"serves {self._source.registered.name} version {version} from now on", markup=False)
        return ""


def _checked(files: Path, recipes: Sequence[str], name: str, version: str | None = None) -> "Release":
    import torch

    from sisr.serving.opening import open_release, read

    found = read(files, name, version)
    open_release(found, torch.device("cpu"), recipes)
    return found
