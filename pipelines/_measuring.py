"""Models measured on the same images: shared by the verbs that do so."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sisr.pipelines import _models

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sisr.data.reading import ImageFile
    from sisr.evaluation.measure import Outcome, Report
    from sisr.metrics.perceptual import Distance
    from sisr.metrics.protocol import Protocol
    from sisr.models.model import Model

SCALE = "HR side / LR side; default: the models' own, else 4."
PROTOCOL = "rgb8: LR and SR are 8-bit RGB. y: luma alone, LR kept in double."
PERCEPTUAL = (
    "auto, none, lpips, vgg, swd, or a VGG-19 weights file; less is better. auto: the first whose weights are here."
)
DATA = "Folder of HR images (all of it), one image file, or demo, celeba:PATH, div2k:PATH (their held-out images)."


def find(data: str) -> "list[ImageFile]":
    """Return the image files that --data names; see `DATA`.

    Raises:
        DataError: There are none.
    """
    from sisr.data.pairs import refuse_pairs
    from sisr.data.reading import ImageFile
    from sisr.data.sources.catalogue import open_source
    from sisr.data.sources.folder import find_images

    path = Path(data)
    if path.is_file():
        return [ImageFile(path.resolve(), path.name)]
    files = find_images(path) if data and path.is_dir() else open_source(data).held_out
    refuse_pairs(data, files)
    return files


def open_all(
    specs: Sequence[str], runs: Path, scale: int | None, device: str, recipes: Sequence[str] = ()
) -> "list[Model]":
    """Return the models, all of one scale: that of the first which is not bicubic, where none is asked for."""
    from sisr.errors import ConfigError

    learned = {spec: _models.open_model(spec, runs, scale, device, recipes) for spec in specs if spec != "bicubic"}
    scales = {spec: model.scale for spec, model in learned.items()}
    if len(set(scales.values())) > 1:
        listed = ", ".join(f"{spec} {s}x" for spec, s in scales.items())
        raise ConfigError(f"models of different scales can't be compared on the same LR: {listed}")
    common = scale or next(iter(scales.values()), None)
    return [learned[s] if s in learned else _models.open_model(s, runs, common, device) for s in specs]


def distance(wanted: str, rule: "Protocol", device: str) -> "Distance | None":
    """Return the distance that `PERCEPTUAL` asks for; `auto` is none where the protocol has no RGB images."""
    if wanted == "auto" and rule.luma_first:
        return None
    from sisr.metrics import perceptual

    offered = perceptual.offered(wanted)
    return perceptual.build(offered[0], _models.chosen_device(device)) if offered else None


def measure(
    models: "Sequence[Model]",
    files: "Sequence[ImageFile]",
    rule: "Protocol",
    on_image: "Callable[[Outcome], None]" = lambda _: None,
    metrics: Sequence[str] | None = None,
    distance: "Distance | None" = None,
) -> "list[Report]":
    """Return each model's values on all files, and show progress; see `sisr.evaluation.measure.evaluate_models`."""
    from sisr.evaluation.measure import evaluate_models
    from sisr.terminal import console

    # MATLAB's own bicubic rounds between the two axes; the network of the same name can't.
    upscalers: Any = [(m.name, "bicubic" if m.name == "bicubic" else m.generator) for m in models]
    with console.progress("evaluating", len(files) * len(models)) as advance:

        def done(outcome: "Outcome") -> None:
            on_image(outcome)
            advance(len(models), outcome.name)

        return evaluate_models(upscalers, _decoded(files), models[0].scale, rule, done, metrics, distance)


def _decoded(files: "Sequence[ImageFile]") -> "Iterator[tuple[str, NDArray[np.uint8]]]":
    """Yield names and pixels: (h, w, 3), or (h, w) where the file is grey.

    A bad file stops it: no mean silently leaves one out.
    """
    from sisr.data.formats import RefusedError
    from sisr.data.images import decode_with_alpha, flatten

    for file in files:
        if file.refused:
            raise RefusedError(*file.refused, file.path)
        picture = decode_with_alpha(file.path)
        yield file.name, picture.pixels[..., 0] if picture.grey and picture.alpha is None else flatten(picture)


def written(metric: str, value: float | None) -> str:
    """Return a value as a table shows it; nothing where one image has none, but all of them together."""
    if value is None:
        return ""
    return f"{value:.3f} dB" if metric.startswith("psnr") else f"{value:.4f}"
