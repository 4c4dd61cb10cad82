"""Weights in files of ours and of other people's, read without executing anything."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sisr.errors import CheckpointError

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
# Where frameworks put a network's weights in a file; the average comes first, where both are there.
WRAPPERS = ("params_ema", "params-ema", "params", "model_state_dict", "state_dict", "generator", "model", "net")
# What frameworks put in front of the names of a generator's weights, and of the networks that were trained beside it.
PREFIXES = ("module.", "generator.")
OTHERS = ("discriminator.", "critic.", "vgg.")
# How files begin that are no weights, though they are named so.
IMPOSTORS = {
    b"version https://git-lfs": "a pointer of Git LFS, not the weights themselves: run `git lfs pull` where it is from",
    b"<!doctype": "a web page, not weights: download it again from the file's own address",
    b"<html": "a web page, not weights: download it again from the file's own address",
}


def is_weights_file(path: Path) -> bool:
    """Return whether a path is named as a file of weights."""
    return path.suffix.lower() in SUFFIXES


def read(path: Path) -> dict[str, Tensor]:
    """Return the state dict in a weights file, .safetensors or of torch.save: tensors by name.

    The averaged weights are taken where there are any. What can't be read, or holds more, raises CheckpointError.
    """
    try:
        refuse_impostors(path)
        if path.suffix.lower() == ".safetensors":
            return _named(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise CheckpointError(f"{path} can't be read as safetensors: {error}") from error
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror or error}") from error
    except CheckpointError:
        raise
    except Exception as error:  # torch raises many types for the same thing
        raise CheckpointError(f"{path} can't be read as weights: {_reason(error)}") from error
    content = content if isinstance(content, dict) else {}
    inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), dict)), content)
    found = {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}
    if not found:
        places = ", ".join(WRAPPERS)
        raise CheckpointError(f"{path} holds no weights: they must be tensors by name, alone or under {places}")
    return _named(found)


def refuse_impostors(path: Path) -> None:
    """Raise CheckpointError if a file is something else that is often named like weights."""
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        raise CheckpointError(f"{path} is empty: copy or download it again")
    for beginning, what in IMPOSTORS.items():
        if start.lstrip().lower().startswith(beginning):
            raise CheckpointError(f"{path} is {what}")


def _reason(error: Exception) -> str:
    """Return in words why `torch.load` refused a file; its own words go on with advice for those who wrote it."""
    text = str(error)
    if "nsupported global" in text or "nsupported class" in text:
        return "it holds Python objects besides weights, which may run code"
    if "Weights only load failed" in text:
        return "it was not written by torch.save, or is damaged"
    return first_line(error)


def _named(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a generator's weights by the names that they have in the network itself."""
    state = {name.replace("_orig_mod.", ""): value for name, value in state.items()}  # of torch.compile
    for prefix in PREFIXES:
        inside = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        beside = [name for name in state if not name.startswith(prefix)]
        if inside and all(name.startswith(OTHERS) for name in beside):
            state = inside
    return state


def misfit(state: dict[str, Tensor], network: dict[str, Tensor]) -> str | None:
    """Return in words the first tensor of a network's own state dict that `state` does not fit, or None."""
    missing, extra = [n for n in network if n not in state], [n for n in state if n not in network]
    wrong = [
        f"'{name}' has the shape {tuple(state[name].shape)} there and {tuple(value.shape)} here"
        for name, value in network.items()
        if name in state and state[name].shape != value.shape
    ]
    count = len(missing) + len(extra) + len(wrong)
    if not count:
        return None
    if wrong:
        first, named = wrong[0], 1
    else:
        words = [f"it lacks '{missing[0]}'"] if missing else []
        words += [f"it has '{extra[0]}', which this network lacks"] if extra else []
        first, named = " and ".join(words), len(words)
    return first + (f"; {count - named} more do not fit" if count > named else "")


def load_weights(network: nn.Module, state: dict[str, Tensor], what: str) -> None:
    """Load a state dict into a network; raise CheckpointError, with the first tensor, if it does not fit exactly.

    `what` is how the message calls both, such as "x.safetensors does not fit recipe 'srez'".
    """
    if problem := misfit(state, network.state_dict()):
        raise CheckpointError(f"{what}: {problem}")
    network.load_state_dict(state)


def first_line(error: BaseException) -> str:
    """Return the first line of an error that says something, of at most 200 characters.

    PyTorch's errors about a state dict begin with a line that names the network only.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Error(s) in loading state_dict"):
        lines = lines[1:]
    return f"{lines[0]:.200}" if lines else repr(error)
