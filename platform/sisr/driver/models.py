"""From what a person calls a model to the model: a run, a folder, a file, or an address in MLflow."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sisr.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from sisr.models.model import Model

HELP = (
    "A run's name or folder, a checkpoint or model folder, a weights file (.safetensors; .pth of other projects), "
    "models:/..., runs:/..., or bicubic."
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
    specs: Sequence[str], runs: Path, scale: int | None, device: str, recipes: Sequence[str] = ()
) -> "list[Model]":
    """Return the models, all of one scale: that of the first which is not bicubic, where none is asked for.

    Raises:
        ConfigError: They have different scales.
    """
    learned = {spec: open_model(spec, runs, scale, device, recipes) for spec in specs if spec != "bicubic"}
    scales = {spec: model.scale for spec, model in learned.items()}
    if len(set(scales.values())) > 1:
        listed = ", ".join(f"{spec} {s}x" for spec, s in scales.items())
        raise ConfigError(f"models of different scales can't be compared on the same LR: {listed}")
    common = scale or next(iter(scales.values()), None)
    return [learned[s] if s in learned else open_model(s, runs, common, device) for s in specs]


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
    """
    if spec.startswith(("models:/", "runs:/")):
        from sisr.tracking.registry import download_model

        return download_model(spec, tracking_uri=tracking_uri, runs=runs)
    from sisr.models.files import find_model

    return find_model(spec, runs)


def places(specs: Iterable[str], runs: Path) -> dict[str, Path]:
    """Return the folder or weights file of each model that is on this machine, by what names it."""
    return {spec: locate(spec, runs) for spec in specs if spec != "bicubic" and ":/" not in spec}


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
