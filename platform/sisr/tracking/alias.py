"""A registered model's alias, such as `champion`, as something that moves: which version has it now."""

import re
from dataclasses import dataclass
from pathlib import Path

from sisr.config.wording import did_you_mean
from sisr.errors import CheckpointError
from sisr.tracking import address, champion, registry, selection
from sisr.tracking.redact import redact_text

_ADDRESS = re.compile(r"models:/+([^/@]+)(?:@([^/@]+)|/(\d+))/?")


@dataclass(frozen=True)
class Registered:
    """What an address such as models:/NAME@ALIAS or models:/NAME/VERSION names."""

    name: str
    alias: str | None  # None: always the same version
    fixed: str | None  # the version, where it is always the same
    server: str  # MLflow's address
    runs: Path  # the folder that holds the runs

    def version(self) -> str:
        """Return the version as of now.

        Raises:
            CheckpointError: There is no such model, or it has no such alias.
            TrackingError: The server does not answer.
        """
        if self.alias is None:
            return str(self.fixed)
        with selection.asking(self.server) as client:
            held = champion.holder(client, self.name, self.alias)
            if held is not None:
                return str(held.version)
            known = champion.names(client)
        where = f"no models:/{self.name}@{self.alias} at {redact_text(self.server)}"
        hint = did_you_mean(self.name, known) or f"models with a champion: {', '.join(known) or 'none'}"
        raise CheckpointError(f"{where}; {hint}")

    def fetch(self, version: str) -> Path:
        """Return a folder with the files of a version; errors as `registry.download_model`."""
        return registry.download_model(f"models:/{self.name}/{version}", tracking_uri=self.server, runs=self.runs)


def registered(spec: str, tracking_uri: str | None, runs: Path) -> Registered | None:
    """Return what `spec` names in the registry; None where it is no address of a registered model.

    Args:
        spec: What a person wrote.
        tracking_uri: The server; None: `MLFLOW_TRACKING_URI`, else the SQLite file in `runs`.
        runs: The folder that holds the runs.
    """
    found = _ADDRESS.fullmatch(spec)
    if found is None:
        return None
    name, alias, version = found.groups()
    return Registered(name, alias, version, address.choose(tracking_uri, runs), runs)
