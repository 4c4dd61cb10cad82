"""The service's model: the one it begins with, and those that an alias moves to afterwards."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sisr.cluster.serve import Service
    from sisr.serving.release import Release
    from sisr.tracking.alias import Registered


def first(spec: str, tracking_uri: str | None, runs: Path) -> "tuple[Release, Registered | None]":
    """Return the model that `spec` names, checked, and where it comes from if that can change.

    Raises:
        CheckpointError: There is no such model, or it does not work.
        TrackingError: The MLflow server does not answer.
    """
    from sisr import models
    from sisr.serving import opening
    from sisr.tracking import registry
    from sisr.tracking.alias import registered

    source = registered(spec, tracking_uri, runs)
    if source is not None:
        return _checked(source, source.version()), source if source.alias else None
    if "://" in spec or spec.startswith(("models:/", "runs:/")):
        folder = registry.download_model(spec, tracking_uri=tracking_uri, runs=runs)
    else:
        folder = models.find(spec, runs)
    found = opening.read(folder, spec.rstrip("/").rpartition("/")[2])
    _check(found)
    return found, None


class Following:
    """Keeps a service at the version that an alias names.

    Args:
        service: What is kept up to date.
        source: None: nothing moves.
    """

    def __init__(self, service: "Service", source: "Registered | None") -> None:
        self._service, self._source = service, source
        self._refused = ""  # a version that does not work
        self._trouble = ""  # what was reported last, and still holds

    def look(self) -> None:
        """Ask once where the alias is, and let the service follow if that version works."""
        from sisr.console import err
        from sisr.errors import CheckpointError, TrackingError

        self._service.mend()
        try:
            trouble = self._follow()
        except (CheckpointError, TrackingError) as error:
            trouble = str(error)
        if trouble and trouble != self._trouble:
            err.print(f"{trouble}; version {self._service.release.version} goes on", markup=False)
        self._trouble = trouble

    def _follow(self) -> str:
        """Return what is still wrong, which may be nothing."""
        from sisr.console import err
        from sisr.errors import CheckpointError

        version = self._source.version() if self._source else self._service.release.version
        if self._source is None or version == self._service.release.version:
            return ""
        if version == self._refused:
            return self._trouble
        try:
            self._service.replace(_checked(self._source, version))
        except CheckpointError as error:
            self._refused = version
            raise CheckpointError(f"models:/{self._source.name}/{version} is not served: {error}") from error
        err.print(f"serves {self._source.name} version {version} from now on", markup=False)
        return ""


def _checked(source: "Registered", version: str) -> "Release":
    from sisr.serving import opening

    found = opening.read(source.fetch(version), source.name, version)
    _check(found)
    return found


def _check(found: "Release") -> None:
    import torch

    from sisr.serving.opening import open_release

    open_release(found, torch.device("cpu"))
