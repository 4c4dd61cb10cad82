"""A release from files, and a working model from a release."""

import hashlib
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch

from sisr.errors import CheckpointError, SisrError
from sisr.inference import tiled
from sisr.models.files import CONFIG, RECIPE, WEIGHTS
from sisr.models.model import Model, load_model
from sisr.serving.release import Release

CHECKED = (24, 36)  # px, height and width of the picture that a model must enlarge before it is served


def read(path: Path, name: str, version: str | None = None) -> Release:
    """Return the model in a folder, or in one weights file, as it will be served.

    Args:
        path: What `sisr.models.files.find_model` or `sisr.tracking.registry.download_model` gave.
        name: How it is called.
        version: None: the beginning of the weights' SHA-256.
    """
    folder, weights = (path, path / WEIGHTS) if path.is_dir() else (path.parent, path)
    beside = [folder / CONFIG, folder / RECIPE]
    files = {file.name: file.read_bytes() for file in (weights, *beside) if file.is_file()}
    return Release(name, version or hashlib.sha256(files[weights.name]).hexdigest()[:12], weights.name, files)


def open_release(release: Release, device: torch.device, allowed: Iterable[str] | None = None) -> Model:
    """Return the model on a device, after it has enlarged one picture.

    Args:
        release: What to open.
        device: Where it works.
        allowed: Recipe files whose code may run; see `load_model`. None: whatever the release brings, for who
            got it from where it was opened with what its user allows.

    Raises:
        CheckpointError: Its files can't be used, or what it made is not an image of the right size.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, content in release.files.items():
            (folder / name).write_bytes(content)
        if allowed is None:
            allowed = [str(folder / RECIPE)] if RECIPE in release.files else []
        whole = CONFIG in release.files and release.weights == WEIGHTS
        model = load_model(folder if whole else folder / release.weights, name=release.name, allowed=allowed)
    model.generator.to(device)
    _check(model, device)
    return model


def _check(model: Model, device: torch.device) -> None:
    height, width = CHECKED
    lr = torch.rand((1, 3, height, width), generator=torch.Generator().manual_seed(0)).to(device)
    try:
        sr = tiled.upscale(model.generator, lr)
    except (RuntimeError, ValueError, SisrError) as error:
        raise CheckpointError(f"{model.name} can't enlarge a picture of {width}x{height} px: {error}") from error
    expected = (1, 3, model.scale * height, model.scale * width)
    if tuple(sr.shape) != expected:
        raise CheckpointError(f"{model.name} makes {tuple(sr.shape)} of {tuple(lr.shape)}, not {expected}")
    if not torch.isfinite(sr).all():
        raise CheckpointError(f"{model.name} makes pixels that are not finite numbers")
