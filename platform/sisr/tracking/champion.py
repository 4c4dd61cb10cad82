"""Versions of a registered model, and its aliases: `champion`, which others use, and `previous`, from before.

MLflow has no transactions, but it gives out version numbers one by one. A version is therefore a ticket: it is created
as a candidate, waits until no lower one is a candidate, and only then looks at the champion. If that is still the one
which the gate has compared it with, it takes its place; else it is withdrawn and the gate must decide again.
"""

import json
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from sisr.config.wording import nearest
from sisr.errors import CheckpointError, ConfigError, TrackingError
from sisr.tracking import address, registry, selection
from sisr.tracking.redact import redact_text

CHAMPION, PREVIOUS = "champion", "previous"
STATE = "sisr.state"
POLL_S = 0.2
PATIENCE_S = 60.0  # with a candidate in front that does not move; its process has died, for it needs a second

_ADDRESS = re.compile(r"models:/+([^/@]+)(?:@([^/@]+)|/(\d+))/?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Entry:
    """What becomes a version."""

    name: str
    model_id: str
    run_id: str | None
    card: str
    tags: Mapping[str, str]


def check_name(name: str) -> str:
    """Return a registered model's name if it can be part of an address such as models:/NAME@champion.

    Raises:
        ConfigError: It can't.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"--model-name {name!r} can't be used: letters, digits, '.', '_' and '-' only, at most 64, "
            "and a letter or digit first"
        )
    return name


def holder(client: MlflowClient, name: str, alias: str = CHAMPION) -> ModelVersion | None:
    """Return the version that has an alias; None where there is none, or no such model."""
    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.get_http_status_code() in (400, 404):
            return None
        raise


def files_of(version: ModelVersion) -> dict[str, str]:
    """Return the SHA-256 of each file of a version, as recorded; empty for one that was registered by other means."""
    return dict(json.loads(version.tags.get(registry.SHA256_TAG, "{}")))


def promote(client: MlflowClient, entry: Entry, against: str | None) -> ModelVersion | None:
    """Make a new version the champion, and the champion `previous`; inside `selection.asking`.

    `against` is the version of the champion that the gate has compared it with; None: there was none.

    Returns:
        The new version; None where another has become champion meanwhile, and nothing was changed.
    """
    try:
        client.create_registered_model(entry.name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    ours = client.create_model_version(
        entry.name,
        f"models:/{entry.model_id}",
        entry.run_id,
        tags={**entry.tags, STATE: "candidate"},
        description=entry.card,
        model_id=entry.model_id,
    )
    try:
        _await_turn(client, entry.name, int(ours.version))
        champion = holder(client, entry.name)
        waiting = client.get_model_version(entry.name, ours.version).tags.get(STATE) == "candidate"
        if not waiting or (champion and str(champion.version)) != against:
            client.delete_model_version(entry.name, ours.version)
            return None
    except BaseException:
        with suppress(MlflowException):
            client.delete_model_version(entry.name, ours.version)
        raise
    # `previous` first: a crash between the two leaves the champion in use, and the same command goes on.
    if champion:
        client.set_registered_model_alias(entry.name, PREVIOUS, champion.version)
    client.set_registered_model_alias(entry.name, CHAMPION, ours.version)
    client.set_model_version_tag(entry.name, ours.version, STATE, "promoted")
    return ours


def roll_back(client: MlflowClient, name: str) -> tuple[str, str]:
    """Make `previous` the champion again and the champion `previous`; return their versions in this order.

    Raises:
        ConfigError: There is no previous champion.
        TrackingError: Another registration came between.
    """
    _await_turn(client, name, None)
    champion, previous = holder(client, name), holder(client, name, PREVIOUS)
    if champion is None:
        known = ", ".join(names(client)) or "none"
        raise ConfigError(f"no registered model '{name}' with a champion; there are {known}")
    if previous is None or previous.version == champion.version:
        raise ConfigError(f"models:/{name}@champion is version {champion.version}, and no version was champion before")
    client.set_registered_model_alias(name, CHAMPION, previous.version)
    client.set_registered_model_alias(name, PREVIOUS, champion.version)
    now = holder(client, name)
    if now is None or now.version != previous.version:
        raise TrackingError(f"another registration came between: champion of '{name}' is version {now and now.version}")
    return str(previous.version), str(champion.version)


def names(client: MlflowClient) -> list[str]:
    """Return the registered models that have a champion."""
    return sorted(
        model.name for model in client.search_registered_models(max_results=1000) if CHAMPION in (model.aliases or {})
    )


def _await_turn(client: MlflowClient, name: str, ours: int | None) -> None:
    """Return when no version below `ours` (None: none at all) is a candidate any more.

    One that stays in front for `PATIENCE_S` belongs to a process that died, and is marked so.
    """
    deadline: dict[str, float] = {}
    while ahead := [v for v in _candidates(client, name) if ours is None or int(v.version) < ours]:
        for version in ahead:
            if time.monotonic() > deadline.setdefault(version.version, time.monotonic() + PATIENCE_S):
                client.set_model_version_tag(name, version.version, STATE, "abandoned")
        time.sleep(POLL_S)


def _candidates(client: MlflowClient, name: str) -> list[ModelVersion]:
    champion = holder(client, name)  # one that died just before it could say that it was promoted
    found = client.search_model_versions(f"name = '{name}' and tags.`{STATE}` = 'candidate'")
    return [version for version in found if champion is None or version.version != champion.version]


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
            held = holder(client, self.name, self.alias)
            if held is not None:
                return str(held.version)
            known = names(client)
        where = f"no models:/{self.name}@{self.alias} at {redact_text(self.server)}"
        near = nearest(self.name, known)
        others = f"models with a champion: {', '.join(known) or 'none'}"
        hint = f"did you mean 'models:/{near}@{CHAMPION}'?" if near else others
        raise CheckpointError(f"{where}; {hint}")

    def fetch(self, version: str) -> Path:
        """Return a folder with the files of a version; errors as `registry.download_model`."""
        return registry.download_model(f"models:/{self.name}/{version}", tracking_uri=self.server, runs=self.runs)


def registered(spec: str, tracking_uri: str | None, runs: Path) -> Registered | None:
    """Return what `spec` names in the registry, by `address.choose`; None where it names no registered model."""
    found = _ADDRESS.fullmatch(spec)
    return found and Registered(found[1], found[2], found[3], address.choose(tracking_uri, runs), runs)
