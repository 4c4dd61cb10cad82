"""Weights in files of ours and of other people's, read without executing anything."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sisr.errors import CheckpointError

PICKLED = (".pth", ".pt", ".ckpt", ".bin")
SUFFIXES = (".safetensors", *PICKLED)
# Where frameworks put a network's weights in a file; the average comes first, where both are there.
WRAPPERS = ("params_ema", "params-ema", "params", "model_state_dict", "state_dict", "generator", "model", "net")


def read(path: Path) -> dict[str, Tensor]:
    """Return the state dict in a weights file: tensors by name.

    Args:
        path: .safetensors, or a file of torch.save, of which the averaged weights are taken where there are any.

    Raises:
        CheckpointError: It can't be read, or holds anything but weights.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise CheckpointError(f"{path} can't be read as safetensors: {error}") from error
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror or error}") from error
    except Exception as error:  # torch raises many types for the same thing
        reason = "it holds Python objects besides weights, which may run code" if "nsupported" in str(error) else error
        raise CheckpointError(f"{path} can't be read as weights: {str(reason).partition(chr(10))[0]}") from error
    return _unwrapped(content, path)


def _unwrapped(content: Any, path: Path) -> dict[str, Tensor]:
    content = content if isinstance(content, dict) else {}
    inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), dict)), content)
    found = {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}
    if not found:
        raise CheckpointError(f"{path} holds no weights: wanted tensors by name, alone or under {', '.join(WRAPPERS)}")
    if all(name.startswith("module.") for name in found):  # saved from DataParallel
        found = {name.removeprefix("module."): value for name, value in found.items()}
    return found


def misfit(state: dict[str, Tensor], wanted: dict[str, Tensor]) -> str | None:
    """Return in words the first of a network's tensors that `state` does not fit, or None where all fit.

    Args:
        state: What is there.
        wanted: The network's own state dict; its values don't matter.
    """
    for name, value in wanted.items():
        if name not in state:
            extra = next((other for other in state if other not in wanted), None)
            return f"it lacks '{name}'" + (f" and has '{extra}'" if extra else "")
        if state[name].shape != value.shape:
            return f"'{name}' is {tuple(state[name].shape)} there, {tuple(value.shape)} here"
    extra = next((name for name in state if name not in wanted), None)
    return f"it has '{extra}', which this network lacks" if extra else None
