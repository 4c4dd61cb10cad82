"""What is written down about a model that is registered."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sisr.pipelines._gate import Gate, Verdict

    from sisr.tracking.candidate import Candidate
    from sisr.tracking.card import Facts
    from sisr.tracking.champion import Entry


def facts(name: str, found: "Candidate", gate: "Gate", verdict: "Verdict", data_licence: str, force: str) -> "Facts":
    """Return what a card says of a candidate that comes through the gate, or past it by force."""
    from sisr.tracking.card import Facts

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
        protocol=verdict.reports[0].protocol,
        by=gate.rules.by,
        means={report.model: report.mean for report in verdict.reports},
        findings=[(test.name, test.passed, test.finding) for test in verdict.tests],
        forced="" if verdict.passed else force,
        data_licence=data_licence,
        has_picture=found.picture is not None,
    )


def files(facts: "Facts", found: "Candidate") -> dict[str, bytes]:
    """Return the card and its picture by file name."""
    from sisr.tracking import card

    written = {card.README: card.readme(facts).encode()}
    return written if found.picture is None else written | {card.PICTURE: found.picture}


def entry(facts: "Facts") -> "Entry":
    """Return what becomes a version: the card as its description, and its main facts as tags."""
    import json

    from sisr.tracking import card, champion

    tags = {
        "sisr.recipe": facts.recipe,
        "sisr.scale": str(facts.scale),
        "sisr.data": facts.data,
        "sisr.protocol": facts.protocol,
        "sisr.gate": json.dumps(facts.findings),
        champion.SHA256_TAG: json.dumps(dict(facts.sha256)),
        **{f"sisr.{metric}": f"{value:.4f}" for metric, value in next(iter(facts.means.values())).items()},
        **({"sisr.forced": facts.forced} if facts.forced else {}),
        **({"sisr.data_licence": facts.data_licence} if facts.data_licence else {}),
    }
    return champion.Entry(facts.name, facts.model_id, facts.run_id, card.description(facts), tags)
