"""A model's card: what it is, where it comes from and how good it is, as Markdown for a person who may use it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sisr.tracking.redact import redact_text

README, PICTURE = "README.md", "samples.png"
MAX_DESCRIPTION = 5000  # characters, of a version's description in MLflow's databases

_PICTURE_IN_MLFLOW = "ajax-api/2.0/mlflow/logged-models/{model_id}/artifacts/files?artifact_file_path=" + PICTURE


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a card is written from."""

    name: str  # of the registered model
    recipe: str
    scale: int
    config: Mapping[str, Any]
    run_id: str
    run_name: str
    model_id: str
    record: Mapping[str, Any]  # run.json
    sha256: Mapping[str, str]  # of the model's files
    data: str  # the images it was measured on, as named
    data_fingerprint: str  # SHA-256 of their names and contents
    images: int
    protocol: str
    by: str
    means: Mapping[str, Mapping[str, float]]  # of each metric by model, the new one first
    findings: Sequence[tuple[str, bool, str]]  # the gate's tests: name, whether passed, in words
    forced: str  # why it was registered although a test failed; empty: none did
    data_licence: str  # as the user states it; empty: not stated
    has_picture: bool


def readme(facts: Facts) -> str:
    """Return the card as a file that lies beside the picture."""
    return _card(facts, PICTURE, _settings(facts))


def description(facts: Facts) -> str:
    """Return the card as a version's description, which MLflow's page shows; settings are left out if too long."""
    picture = _PICTURE_IN_MLFLOW.format(model_id=facts.model_id)
    whole = _card(facts, picture, _settings(facts))
    if len(whole) <= MAX_DESCRIPTION:
        return whole
    pointer = f"## Settings\n\nAll settings are in {README}, in the model's artifacts.\n"
    return _card(facts, picture, pointer)[:MAX_DESCRIPTION]


def _card(facts: Facts, picture: str, settings: str) -> str:
    head = [f"# {facts.name}: {facts.scale}x super-resolution by recipe {facts.recipe}"]
    if facts.forced:
        head.append(f"**Registered by force although the gate refused it: {facts.forced}**")
    if facts.has_picture:
        head.append(f"![low resolution, bicubic, this model, original]({picture})")
    return redact_text("\n\n".join([*head, _quality(facts), _origin(facts), _use(facts), settings]))


def _quality(facts: Facts) -> str:
    metrics = list(next(iter(facts.means.values())))
    rows = [["model", *metrics], ["---", *("---:" for _ in metrics)]]
    rows += [[name, *(f"{values[m]:.4f}" for m in metrics)] for name, values in facts.means.items()]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    tests = "\n".join(f"- {name}: {'passed' if ok else 'FAILED'}; {reason}" for name, ok, reason in facts.findings)
    return (
        f"## Quality\n\nMean of {facts.images} images of `{facts.data}` (SHA-256 `{facts.data_fingerprint[:16]}`), "
        f"protocol `{facts.protocol}`:\n\n{table}\n\nThe gate compared {facts.by} image by image; "
        f"in brackets, where the mean difference lies with 95 % confidence:\n\n{tests}"
    )


def _origin(facts: Facts) -> str:
    run, code = facts.record.get("run", {}), facts.record.get("code", {})
    changed = ", with uncommitted changes" if code.get("changed") else ""
    counts = facts.record.get("data", {})
    lines = {
        "run": f"{facts.run_name} (MLflow run `{facts.run_id}`)",
        "trained on": f"`{run.get('data', 'not recorded')}`, {counts.get('train', '?')} images, "
        f"fingerprint `{run.get('fingerprint', 'not recorded')}`",
        "licence of the data": facts.data_licence or "not stated",
        "code": f"revision `{code['revision']}`{changed}" if code else "revision not recorded",
        "versions": ", ".join(f"{k} {v}" for k, v in facts.record.get("versions", {}).items()) or "not recorded",
        "files (SHA-256)": ", ".join(f"{name} `{sha}`" for name, sha in facts.sha256.items()),
    }
    return "## Origin\n\n" + "\n".join(f"- {name}: {value}" for name, value in lines.items())


def _use(facts: Facts) -> str:
    return (
        "## Use\n\n```python\nimport mlflow\n"
        f'model = mlflow.pyfunc.load_model("models:/{facts.name}@champion")\n'
        f"sr = model.predict(lr)       # uint8 (n, h, w, 3) -> uint8 (n, {facts.scale} h, {facts.scale} w, 3)\n"
        "png = model.predict(file)    # bytes of a PNG, JPEG, WebP, AVIF, BMP or TIFF -> bytes of a PNG\n```"
    )


def _settings(facts: Facts) -> str:
    listed = json.dumps({"config": facts.config, "options": facts.record.get("run", {}).get("options", {})}, indent=1)
    return f"## Settings\n\n```json\n{listed}\n```\n"
