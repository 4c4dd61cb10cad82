"""From a run to the champion of a registered model: through the gate, with a card, or back to the one before."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sisr.driver.registration_gate import Decision, Gate, Rules
from sisr.errors import ConfigError
from sisr.metrics.catalogue import Mode, direction
from sisr.metrics.protocol import in_words
from sisr.terminal.console import note
from sisr.tracking import address, candidate, card, champion, registry, selection
from sisr.tracking.candidate import Candidate
from sisr.tracking.card import Facts


@dataclass(frozen=True)
class Registration:
    """What a user asks for: which run is to be registered, where it is looked for, and as what."""

    run: str | None
    experiment: str | None
    metric: str  # of the experiment's best run
    mode: Mode | None  # None: as the catalogue of metrics says
    tracking_uri: str | None
    runs: Path
    name: str | None  # of the registered model; None: the recipe's
    data_licence: str  # as the user states it
    force: str  # why it is registered although the gate refuses it; empty: it is not


def register(request: Registration, rules: Rules) -> dict[str, Any]:
    """Pass a run's model through the gate until it is refused, or becomes champion in the place of what it beat.

    Returns:
        What happened, for JSON: `state` is `registered`, `forced`, `refused` or `champion already`.
    """
    if (request.run is None) == (request.experiment is None):
        raise ConfigError("name what to register: a run, or --experiment NAME for the best of its runs (or --rollback)")
    folder = None if request.run is None else selection.locate(request.run, request.runs)
    server = address.choose(request.tracking_uri, request.runs, folder)
    with selection.asking(server) as client:
        found = candidate.fetch(client, server, _run_id(client, request, folder, server), request.runs)
        gate = Gate(found, rules, request.runs)
        name = champion.check_name(request.name or str(gate.model.meta["recipe"]))

        def files_of(version: str) -> Path:
            return registry.download_model(f"models:/{name}/{version}", tracking_uri=server, runs=request.runs)

        while True:
            present = champion.holder(client, name)
            before = present and str(present.version)
            if present is not None and champion.files_of(present) == found.sha256:
                return {"state": "champion already", "model": name, "version": before, "run": found.name}
            decision = gate.decide(before, files_of)
            facts = _facts(name, found, gate, decision, request)
            if not decision.passed and not request.force:
                return _result(facts, "refused", None, before)
            picture = {} if found.picture is None else {card.PICTURE: found.picture}
            registry.add_files(client, found.model_id, {card.README: card.readme(facts).encode(), **picture})
            version = champion.promote(client, _entry(facts), before)
            if version is not None:
                return _result(facts, "forced" if facts.forced else "registered", str(version.version), before)


def roll_back(name: str | None, tracking_uri: str | None, runs: Path) -> dict[str, Any]:
    """Swap a model's champion and previous champion, and return what happened, for JSON."""
    server = address.choose(tracking_uri, runs)
    with selection.asking(server) as client:
        known = champion.names(client)
        if name is None and len(known) != 1:
            raise ConfigError(f"name the model with --model-name; there are {', '.join(known) or 'none'}")
        version, previous = champion.roll_back(client, name or known[0])
    return {"state": "rolled back", "model": name or known[0], "version": version, "previous": previous}


def summary(result: dict[str, Any]) -> str:
    """Return what happened in a few lines."""
    checks = [
        f"  {t['name']}: {'passed' if t['passed'] else 'FAILED'}; {t['finding']}" for t in result.get("tests", ())
    ]
    before = f"; version {result['previous']} is previous" if result.get("previous") else ""
    where = f"{result['state']}: version {result['version']} is models:/{result['model']}@champion{before}"
    if result["state"] == "champion already":
        where += "; nothing was measured, `sisr evaluate` does"
    measured = [f"  {result['images']} images of {result['data']}, {in_words(result['protocol'])}"] if checks else []
    return "\n".join([where, *measured, *checks])


def failures(result: dict[str, Any]) -> str:
    """Return why a model was refused, in one line."""
    failed = "; ".join(f"{test['name']}: {test['finding']}" for test in result["tests"] if not test["passed"])
    return f"run {result['run']} is not registered as '{result['model']}'; {failed}"


def _run_id(client: Any, request: Registration, folder: Path | None, server: str) -> str:
    if request.experiment is None:
        return str(request.run) if folder is None else selection.delivered(folder, server)
    mode = request.mode or direction(request.metric)
    run = selection.ranked(client, request.experiment, request.metric, mode)[0]
    value = selection.reported(run)[request.metric]
    note(f"best of {request.experiment} by {request.metric}: {run.info.run_name} ({value:.6g})")
    return str(run.info.run_id)


def _facts(name: str, found: Candidate, gate: Gate, decision: Decision, request: Registration) -> Facts:
    """Return what a card says of a candidate that comes through the gate, or past it by force."""
    meta = gate.model.meta
    return Facts(
        name=name,
        recipe=str(meta["recipe"]),
        scale=gate.model.scale,
        config=meta["config"],
        run_id=found.run.info.run_id,
        run_name=found.name,
        model_id=found.model_id,
        record=found.record,
        sha256=found.sha256,
        data=gate.data,
        data_fingerprint=gate.fingerprint,
        images=len(gate.files),
        protocol=decision.measured[0].protocol,
        by=gate.by.name,
        means={measured.model: measured.mean for measured in decision.measured},
        findings=[(check.name, check.passed, check.text) for check in decision.checks],
        forced="" if decision.passed else request.force,
        data_licence=request.data_licence,
        has_picture=found.picture is not None,
    )


def _entry(facts: Facts) -> champion.Entry:
    """Return what becomes a version: the card as its description, and its main facts as tags."""
    tags = {
        "sisr.recipe": facts.recipe,
        "sisr.scale": str(facts.scale),
        "sisr.data": facts.data,
        "sisr.protocol": facts.protocol,
        "sisr.gate": json.dumps(facts.findings),
        registry.SHA256_TAG: json.dumps(dict(facts.sha256)),
        **{f"sisr.{metric}": f"{value:.4f}" for metric, value in next(iter(facts.means.values())).items()},
        **({"sisr.forced": facts.forced} if facts.forced else {}),
        **({"sisr.data_licence": facts.data_licence} if facts.data_licence else {}),
    }
    return champion.Entry(facts.name, facts.model_id, facts.run_id, card.description(facts), tags)


def _result(facts: Facts, state: str, version: str | None, previous: str | None) -> dict[str, Any]:
    return {
        "state": state,
        "model": facts.name,
        "version": version,
        "previous": previous,
        "run": facts.run_name,
        "protocol": facts.protocol,
        "data": facts.data,
        "images": facts.images,
        "by": facts.by,
        "tests": [{"name": name, "passed": passed, "finding": words} for name, passed, words in facts.findings],
        "mean": facts.means,
    }
