"""A run's first weights, where they are another model's: checked by the driver, read by every worker."""

import hashlib
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from sisr.errors import CheckpointError
from sisr.models import weights
from sisr.training.run import Run


def digest(state: dict[str, Tensor]) -> str:
    """Return the SHA-256 of the file that `write` makes of a generator's weights."""
    return hashlib.sha256(_content(state)).hexdigest()


def write(path: Path, state: dict[str, Tensor]) -> None:
    """Put a generator's weights where the workers find them."""
    path.write_bytes(_content(state))


def start_from(path: Path, run: Run, *networks: nn.Module) -> None:
    """Load a run's first weights into networks that are made like its generator.

    Raises:
        CheckpointError: They are missing here, or are not those that the run was started with.
    """
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(
            f"{path}, the weights of --init {run.init}, can't be read: {error.strerror}; all workers must share --runs"
        ) from error
    if found != run.init_sha256:
        raise CheckpointError(f"{path} was changed since the run was started from --init {run.init}; remove the run")
    state = weights.read(path)
    for network in networks:
        network.load_state_dict(state)


def _content(state: dict[str, Tensor]) -> bytes:
    def plain(value: Tensor) -> Tensor:
        return (value.to(torch.float32) if value.is_floating_point() else value).detach().cpu().contiguous()

    return save({name: plain(state[name]) for name in sorted(state)})
