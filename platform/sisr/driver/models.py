"""From what a person calls a model to the model: a run, a folder, a file, or an address in MLflow."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sisr.errors import CheckpointError, ConfigError
from sisr.storage import ownership
from sisr.storage.address import is_address

if TYPE_CHECKING:
    import torch

    from sisr.data.sources import ImageFile
    from sisr.inference.prepared import Prepared
    from sisr.models.model import Model

IN_MLFLOW = ("models:/", "runs:/")
MOST_AT_ONCE = 4  # images measured side by side: each takes memory
LARGE_PX = 2**19
HELP = (
    "A run's name, folder or address (s3://...), a checkpoint or model folder, a weights file (.safetensors; .pth of "
    "other projects), models:/..., runs:/..., or bicubic."
)


def open_model(spec: str, runs: Path, scale: int | None, device: str = "auto", recipes: Sequence[str] = ()) -> "Model":
    """Return the model that `spec` names, called `spec`, in evaluation mode on the device.

    Args:
        spec: See `HELP`.
        runs: Folder that holds all runs.
        scale: hr side / lr side that is wanted; None: the model's own (bicubic: 4).
        device: `auto` (a GPU where there is one), `cpu`, or torch's name of a device.
        recipes: Recipe files whose code may run.

    Raises:
        CheckpointError: There is no such model, or its files can't be used.
        ConfigError: The model has another scale, or the device is not there.
        TrackingError: The MLflow server does not answer.
    """
    from sisr.inference.tiled import Bicubic
    from sisr.models.model import Model, load_model

    if spec == "bicubic":
        model = Model(spec, Bicubic(scale or 4).eval(), {})
    else:
        model = load_model(locate(spec, runs), name=spec, allowed=recipes)
    if scale not in (None, model.scale):
        raise ConfigError(f"{spec} makes images {model.scale} times as large; --scale {scale} is not possible with it")
    model.generator.to(chosen_device(device))
    return model


def open_all(
    specs: Sequence[str], runs: Path, scale: int | None, device: str, recipes: Sequence[str] = (), usual: int = 4
) -> "list[Model]":
    """Return the models, all of one scale: that of the first which is not bicubic, where none is asked for.

    Bicubic alone has the `usual` scale.

    Raises:
        ConfigError: They have different scales.
    """
    learned = {spec: open_model(spec, runs, scale, device, recipes) for spec in specs if spec != "bicubic"}
    scales = {spec: model.scale for spec, model in learned.items()}
    if len(set(scales.values())) > 1:
        listed = ", ".join(f"{spec} {s}x" for spec, s in scales.items())
        raise ConfigError(f"models of different scales can't be compared on the same LR: {listed}")
    common = scale or next(iter(scales.values()), usual)
    return [learned[s] if s in learned else open_model(s, runs, common, device) for s in specs]


def varied(model: "Model", self_ensemble: bool, output_scale: int | None) -> "Model":
    """Return the model as it is to be used: averaged over turns, brought to another scale."""
    from sisr.inference.variants import Rescaled, SelfEnsemble

    generator = SelfEnsemble(model.generator) if self_ensemble else model.generator
    if output_scale not in (None, model.scale):
        generator = Rescaled(generator, output_scale)
    return replace(model, generator=generator.eval())


def prepared(model: "Model", precision: str) -> "Prepared":
    """Return a model's generator in a number format: `auto` is what training takes, tried on the first picture.

    Bicubic is computed in float32 at least.

    Raises:
        ConfigError: The device can't compute in it.
    """
    import torch

    from sisr.inference.prepared import Prepared
    from sisr.training.device import resolve

    parameter = next(model.generator.parameters(), None)
    number_format = resolve(precision, torch.device("cpu") if parameter is None else parameter.device)
    if parameter is None:
        return Prepared(model.generator)
    return Prepared(model.generator, number_format, tried=precision == "auto")


def in_manner(
    models: "Sequence[Model]", first: Path, precision: str, self_ensemble: bool, output_scale: int | None
) -> "tuple[list[Model], str]":
    """Return models as `evaluate` is to use them, and what the protocol has to say of it, such as `|bf16|x8`.

    Args:
        models: All of one scale.
        first: The image that `auto` is tried on; where it fails for one model, all compute in float32.
        precision: See `prepared`.
        self_ensemble: Not of bicubic.
        output_scale: None: the models' own.
    """
    from sisr.data.images import decode_with_alpha
    from sisr.inference.tiled import Bicubic

    found, formats = [], set()
    for model in models:
        if model.name == "bicubic":
            found.append(replace(model, generator=Bicubic(output_scale or model.scale).eval()))
            continue
        used = prepared(varied(model, self_ensemble, output_scale), precision)
        if precision == "auto":
            used.look_at(decode_with_alpha(first))
        formats.add(used.number_format)
        found.append(replace(model, generator=used.generator.eval()))
    if len(formats) > 1:
        return in_manner(models, first, "fp32", self_ensemble, output_scale)
    own = models[0].scale if models else output_scale
    said = [*(formats - {"fp32"}), *(["x8"] if self_ensemble else [])]
    said += [f"x{own}-to-x{output_scale}"] if output_scale not in (None, own) else []
    return found, "".join(f"|{each}" for each in said)


def side_by_side(models: "Sequence[Model]", files: "Sequence[ImageFile]") -> int:
    """Return how many images are measured at the same time: as many as there are CPU threads, up to a few.

    Of large ones half as many: two threads are busy with one, which takes half the memory of two.
    """
    import torch

    from sisr.data.pairs import header_size

    if any(parameter.is_cuda for model in models for parameter in model.generator.parameters()):
        return 2
    areas = sorted(math.prod(header_size(file.path) or (0, 0)) for file in files)
    threads = torch.get_num_threads() // (2 if areas[len(areas) // 2] >= LARGE_PX else 1)
    return max(1, min(threads, MOST_AT_ONCE))


def short(spec: str) -> str:
    """Return a file's name for the model `spec`, without suffix: `r1` for `runs/r1/`, `x-best` for `models:/x@best`."""
    scheme, found, address = spec.partition(":/")
    words = re.sub(r"[/:@]+", "-", address.strip("/")) if found and scheme in ("models", "runs") else Path(spec).name
    return re.sub(r"\.(safetensors|pth|pt)$", "", words) or "model"


def locate(spec: str, runs: Path, tracking_uri: str | None = None) -> Path:
    """Return the folder or weights file of the model that `spec` names, fetched from MLflow where it is there.

    Args:
        spec: See `HELP`; not bicubic.
        runs: Folder that holds all runs.
        tracking_uri: None: see `sisr.tracking.registry.download_model`.

    Raises:
        CheckpointError: There is no such model.
        TrackingError: The MLflow server does not answer.
        StorageError: It is in object storage, which does not answer.
    """
    if spec.startswith(IN_MLFLOW):
        from sisr.tracking.champion import registered
        from sisr.tracking.registry import download_model

        if found := registered(spec, tracking_uri, runs):
            return found.fetch(found.version())
        return download_model(spec, tracking_uri=tracking_uri, runs=runs)
    from sisr.models.files import find_model

    if is_address(spec):
        folder = ownership.folder_of(spec, runs)
        if not folder.is_dir():
            raise CheckpointError(f"no model '{spec}': there is nothing at this address; `sisr runs` lists what is")
        return find_model(str(folder), runs)
    ownership.refresh(runs / spec)
    return find_model(spec, runs)


def chosen_device(device: str) -> "torch.device":
    """Return the device that `auto` (a GPU where there is one), `cpu`, or torch's name of a device stands for.

    Raises:
        ConfigError: It is not there.
    """
    import torch

    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        reason = str(error).splitlines()[0].rstrip(".")
        if "device string" in reason:
            reason = "there is no such kind of device"
        raise ConfigError(
            f"--device {device} can't be used: {reason}; wanted auto, cpu, cuda or cuda:NUMBER"
        ) from error
