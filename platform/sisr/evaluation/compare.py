"""A comparison of models on the same images: measured, ranked, and written as a folder with a page."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from sisr.data.sources import ImageFile
from sisr.errors import DataError
from sisr.evaluation import ranking
from sisr.evaluation.finished import Finished
from sisr.evaluation.gallery import PLACES, Gallery
from sisr.evaluation.images import decoded
from sisr.evaluation.judged import Pixels
from sisr.evaluation.measure import Measurement, Original, Upscaler, evaluate_models
from sisr.evaluation.page import PAGE, cells, columns, write
from sisr.evaluation.ranking import Cost, Ranked
from sisr.inference.memory import keep_freed
from sisr.inference.probe import multiply_adds
from sisr.metrics import perceptual
from sisr.metrics.catalogue import ALWAYS, METRICS, PSNR_Y, SCORE, Metric, further_names
from sisr.metrics.perceptual import Distance
from sisr.metrics.protocol import Protocol, in_words, protocol
from sisr.models.model import Model
from sisr.recipe import parameter_count
from sisr.terminal import console

BICUBIC: Literal["bicubic"] = "bicubic"


@dataclass(frozen=True)
class Measures:
    """What models are judged by."""

    rule: Protocol
    distance: Distance | None
    further: Sequence[Distance] = ()
    missing: Sequence[str] = ()  # in words, which further metrics can't be measured, and why


@dataclass(frozen=True)
class Comparison:
    """A comparison that was made and written."""

    content: dict[str, Any]  # for JSON
    rows: list[Ranked]
    notes: list[str]
    folder: Path
    sheets: list[str]  # pictures of the places, by their path in the folder
    best: str  # the name of the best model, as `best` finds it

    def show(self) -> None:
        """Print the table, the notes and where the page is."""
        content = self.content
        title = f"{content['num_images']} images of {content['data']}, against {content['against']}"
        console.table(title, columns(self.rows), [cells(row) for row in self.rows])
        for line in (f"measured {in_words(content['protocol'])}", *self.notes, f"page: {self.folder / PAGE}"):
            console.write(line)


def ranked_by(by: Measures) -> Metric:
    """Return the metric that says which of several models is best: the score, or PSNR-Y without a distance."""
    return SCORE if by.distance else PSNR_Y


def best(measured: Sequence[Measurement], by: Measures) -> str:
    """Return the name of the best of models that were measured on the same images, together with bicubic."""
    return max(measured, key=lambda found: found.mean[ranked_by(by).name]).model


def measures(name: str, request: str, device: torch.device, metrics: str = "") -> Measures:
    """Return what models are judged by; from now on this process keeps the memory that it frees.

    Args:
        name: The protocol's.
        request: Of the perceptual distance, as `sisr.metrics.perceptual.offered` takes it; `auto` is none where the
            protocol has no RGB images.
        device: The distance's.
        metrics: Further ones, such as `dists,niqe`.

    Raises:
        ConfigError: There is no such protocol, or the distance can't be had.
    """
    keep_freed()  # before threads begin, each of which would keep an arena of its own
    rule = protocol(name)
    offered = [] if request == "auto" and rule.luma_first else perceptual.offered(request)
    distance = perceptual.build(offered[0], device) if offered else None
    if rule.luma_first and further_names(metrics):
        return Measures(rule, distance, (), [f"{metrics}: left out, for protocol {rule.name} has luma alone: use rgb8"])
    return Measures(rule, distance, *perceptual.build_further(metrics, device))


def measure(
    models: Sequence[Model],
    files: Sequence[ImageFile],
    by: Measures,
    gallery: Gallery | None = None,
    *,
    num_compared: int = 0,
    metrics: Sequence[str] | None = None,
    scale: int | None = None,
    finished: Mapping[str, Finished] | None = None,
    at_once: int = 1,
) -> tuple[list[Measurement], str]:
    """Return each model's values on all files, and a digest of the images; shows progress.

    Args:
        models: All of one scale.
        files: The images, or pairs.
        by: What models are judged by.
        gallery: Looks at every image.
        num_compared: See `Gallery.add`.
        metrics: See `evaluate_models`.
        scale: hr side / lr side; None: the models'.
        finished: What other programs have made, by name; measured after the models.
        at_once: See `evaluate_models`.
    """
    # MATLAB's own bicubic rounds between the two axes; the network of the same name can't.
    upscalers: list[tuple[str, Upscaler]] = [(m.name, BICUBIC if m.name == BICUBIC else m.generator) for m in models]
    upscalers += (finished or {}).items()
    images = hashlib.sha256()

    def originals() -> Iterator[Original]:
        for original in decoded(files):
            if original.lr is not None:
                images.update(original.lr.tobytes())
            yield original

    what = upscalers[0][0] if len(upscalers) == 1 else f"{len(upscalers)} models"
    with console.progress(f"measuring {what}", len(files) * len(upscalers)) as advance:

        def look(name: str, hr: Pixels, sr: list[Pixels], lr: Pixels) -> None:
            images.update(repr((name, hr.shape)).encode())
            images.update(hr.tobytes())
            if gallery:
                gallery.add(name, hr, sr, num_compared, lr)
            advance(len(upscalers), name)

        scale, judged_by = scale or models[0].scale, (by.rule, look, metrics, by.distance)
        found = evaluate_models(upscalers, originals(), scale, *judged_by, at_once=at_once, further=by.further)
    return found, images.hexdigest()


def unmeasured(measured: Sequence[Measurement], by: Measures) -> list[str]:
    """Return in words which further metrics were not measured because an image is too small."""
    least = {each.name: METRICS[each.name].least for each in by.further if each.name not in measured[0].further}
    return [f"{name} is left out: some images have less than {px} px a side" for name, px in least.items()]


def compare(
    models: Sequence[Model],
    num_named: int,
    files: Sequence[ImageFile],
    by: Measures,
    against: str,
    data: str,
    runs: Path,
    warnings: Sequence[str] = (),
    places: int = PLACES,
) -> Comparison:
    """Measure the models and write the comparison's folder.

    Args:
        models: All of one scale, under different names.
        num_named: The first so many were asked for; they choose the places that are shown.
        files: The images.
        by: What models are judged by.
        against: The model that the others are compared with.
        data: What the user calls the images.
        runs: The comparison's folder is made in it.
        warnings: What a reader must know besides.
        places: How many places are shown, each of another image.

    Raises:
        DataError: There is one image only.
    """
    if len(files) < 2:
        raise DataError(f"{data} is one image: a comparison needs two or more, since it asks what differs; name others "
                        "with --data")  # fmt: skip
    gallery, costs = Gallery(places), [_cost(model) for model in models]  # runs each once, before time is taken
    always = [metric.name for metric in ALWAYS]
    measured, images = measure(models, files, by, gallery, num_compared=max(num_named, 2), metrics=always)
    with console.stage("working out which differences are shown"):
        rows = ranking.rank(measured, costs, against)
    digests = {m.name: _digest(m.generator) for m in models}
    notes = [*warnings, *by.missing, *unmeasured(measured, by), *ranking.notes(rows), *_twins(digests)]
    notes += ranking.forgiven(measured)
    stamp, device = measured[0].protocol, _device(models)
    content: dict[str, Any] = {
        "data": data,
        "num_images": len(files),
        "protocol": stamp,
        "scale": models[0].scale,
        "against": against,
        "device": device,
        "models": [row.to_json() for row in rows],
        "places": [{n: getattr(p, n) for n in ("image", "row", "column", "side", "spread")} for p in gallery.places],
        "notes": notes,
    }
    name = _folder_name({"models": digests, "against": against, "protocol": stamp, "images": images})
    facts = [f"{len(files)} images: {data}", f"Protocol: {stamp}", f"Reference: {against}", f"Device: {device}"]
    with console.stage("drawing the comparison's page"):
        sheets = write(runs / name, console.finite(content), rows, gallery.places, facts, notes)
    return Comparison(content, rows, notes, runs / name, sheets, best(measured, by))


def _folder_name(identity: Any) -> str:
    """Return the name of the folder for a comparison of which `identity` (JSON) says all that its values depend on."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode("utf-8", "surrogateescape")).hexdigest()
    return f"compare-{digest[:10]}"


def _digest(generator: nn.Module) -> str:
    """Return a number that says whether two generators are the same: kind, weights and their names."""
    digest = hashlib.sha256(type(generator).__name__.encode())
    for name, value in generator.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()


def _cost(model: Model) -> Cost:
    if model.name == BICUBIC:
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


def _device(models: Sequence[Model]) -> str:
    like = next((p for model in models for p in model.generator.parameters()), torch.empty(0))
    if like.device.type == "cuda":
        return torch.cuda.get_device_name(like.device)
    return f"CPU, {torch.get_num_threads()} threads"
