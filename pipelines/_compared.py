"""What `sisr compare` does with models and images: measure, rank, write, log and show."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sisr.pipelines import _measuring

if TYPE_CHECKING:
    from sisr.data.reading import ImageFile
    from sisr.evaluation.folder import Files
    from sisr.evaluation.ranking import Cost, Row
    from sisr.metrics.perceptual import Distance
    from sisr.metrics.protocol import Protocol
    from sisr.models.model import Model

DELIVERY_S = 60.0  # how long MLflow may take; what has not arrived then, `sisr sync` delivers


@dataclass(frozen=True)
class Measures:
    """What models are judged by."""

    rule: "Protocol"
    distance: "Distance | None"


@dataclass(frozen=True)
class Result:
    """A comparison that was made and written."""

    content: dict[str, Any]  # for JSON
    rows: "list[Row]"
    notes: list[str]
    files: "Files"


def at_least_two(files: "list[ImageFile]") -> "list[ImageFile]":
    """Return the files if they are two or more.

    Raises:
        DataError: They are not.
    """
    from sisr.errors import DataError

    if len(files) < 2:
        raise DataError(f"{files[0].path} is one image: a comparison wants two or more, since it asks what differs")
    return files


def compare(
    models: "list[Model]",
    num_named: int,
    files: "list[ImageFile]",
    measures: Measures,
    against: str,
    data: str,
    runs: Path,
) -> Result:
    """Measure the models and write the comparison's folder.

    Args:
        models: All of one scale, under different names.
        num_named: The first so many were asked for; they choose the places that are shown.
        files: The images.
        measures: What they are judged by.
        against: The model that the others are compared with.
        data: What the user calls the images.
        runs: The comparison's folder is made in it.
    """
    from sisr.evaluation import folder, ranking
    from sisr.evaluation.gallery import Gallery
    from sisr.terminal.console import finite

    gallery, images = Gallery(), hashlib.sha256()

    def look(outcome: Any) -> None:
        images.update(repr((outcome.name, outcome.hr.shape)).encode())
        images.update(outcome.hr.tobytes())
        gallery.add(outcome.name, outcome.hr, outcome.sr, max(num_named, 2))

    costs = [_cost(model) for model in models]  # runs each once, before time is taken
    reports = _measuring.measure(models, files, measures.rule, look, ranking.PRIMARY, measures.distance)
    rows = ranking.rank(reports, costs, against)
    digests = {m.name: folder.digest_of(m.generator) for m in models}
    notes = ranking.notes(rows) + _twins(digests)
    stamp = reports[0].protocol
    content: dict[str, Any] = {
        "data": data,
        "num_images": len(files),
        "protocol": stamp,
        "scale": models[0].scale,
        "against": against,
        "device": _device(models),
        "models": [row.to_json() for row in rows],
        "places": [{n: getattr(p, n) for n in ("image", "row", "column", "side", "spread")} for p in gallery.places],
        "notes": notes,
    }
    name = folder.name_of({"models": digests, "against": against, "protocol": stamp, "images": images.hexdigest()})
    facts = [
        f"{len(files)} images: {data}",
        f"Protocol: {stamp}",
        f"Reference: {against}",
        f"Device: {_device(models)}",
    ]
    written = folder.write(runs / name, finite(content), rows, gallery.places, facts, notes)
    return Result(content, rows, notes, written)


def _cost(model: "Model") -> "Cost":
    from sisr.evaluation.ranking import Cost
    from sisr.inference.probe import multiply_adds
    from sisr.recipe import parameter_count

    if model.name == "bicubic":
        return Cost(None, None)
    return Cost(parameter_count(model.generator), multiply_adds(model.generator))


def _twins(digests: dict[str, str]) -> list[str]:
    """Return in words which models are the same under two names."""
    first: dict[str, str] = {}
    found = []
    for name, digest in digests.items():
        if first.setdefault(digest, name) != name:
            found.append(f"{name} has the same weights as {first[digest]}")
    return found


def _device(models: "Sequence[Model]") -> str:
    import torch

    like = next((p for model in models for p in model.generator.parameters()), torch.empty(0))
    if like.device.type == "cuda":
        return torch.cuda.get_device_name(like.device)
    return f"CPU, {torch.get_num_threads()} threads"


def log(result: Result, tracking_uri: str | None, experiment: str | None) -> str:
    """Record the comparison as an MLflow run and deliver it; return what has to be said about that, or nothing."""
    from sisr.errors import RunLockedError
    from sisr.tracking import courier
    from sisr.tracking.outbox import Outbox

    folder = result.files.folder
    try:
        with Outbox(folder) as outbox:
            _record(result, outbox)
    except RunLockedError as error:
        return f"not logged: {error}"
    return courier.start(folder, tracking_uri, experiment).finish(DELIVERY_S).message


def _record(result: Result, outbox: Any) -> None:
    content, files = result.content, result.files
    outbox.params({n: content[n] for n in ("data", "num_images", "protocol", "scale", "against")})
    verdicts = {row.model: row.verdict for row in result.rows}
    outbox.tags({"sisr.kind": "compare", "sisr.models": list(verdicts), "sisr.verdicts": verdicts})
    outbox.status("RUNNING")
    for place, row in enumerate(result.rows):
        values = {**row.report.mean, "ms_per_image": row.ms}
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        outbox.metrics(0, {f"{_fit(row.model, place)}/{name}": value for name, value in finite.items()})
    for number, sheet in enumerate(files.sheets):
        outbox.image(0, f"places/{number + 1}", sheet)
    outbox.artifact(files.page)
    outbox.artifact(files.result)
    outbox.status("FINISHED")


def _fit(name: str, place: int) -> str:
    """Return a model's name as MLflow can write it in a metric's, told apart from the others by its place."""
    letters = "".join(c if c.isascii() and (c.isalnum() or c in "_-.") else "_" for c in name)
    return f"{place + 1}_{letters[-100:]}"


def show(result: Result) -> None:
    """Print the table, the notes and where the page is."""
    from sisr.evaluation.page import cells, columns
    from sisr.terminal import console

    content = result.content
    title = f"{content['num_images']} images of {content['data']}, against {content['against']}"
    console.table(title, columns(result.rows), [cells(row) for row in result.rows])
    for line in (f"protocol: {content['protocol']}", *result.notes, f"page: {result.files.folder / result.files.page}"):
        console.out.print(line, markup=False)
