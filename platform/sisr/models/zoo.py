"""Other people's weights as generators: what the optional package spandrel recognises, by the weights alone."""

import importlib
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sisr.errors import CheckpointError
from sisr.inference.receptive_field import halo
from sisr.models import weights
from sisr.nets.images import require_images


class Recognised(nn.Module):
    """A network of spandrel's, with what inference asks of a generator."""

    def __init__(self, found: Any) -> None:
        super().__init__()
        self.network: nn.Module = found.model.float().eval()
        self._found = found
        self.architecture = f"{found.architecture.name} {' '.join(found.tags)}".strip()
        self.scale = int(found.scale)
        self.size_multiple = int(found.size_requirements.multiple_of)
        self.halo = halo(self, self.size_multiple)

    def forward(self, lr: Tensor) -> Tensor:
        """Return sr (n, 3, scale * h, scale * w) in [0, 1]; spandrel pads what is too small, and clamps."""
        require_images(lr)
        sr: Tensor = self._found(lr)
        return sr


def recognise(path: Path) -> Recognised:
    """Return the network that a weights file belongs to, with these weights; nothing in the file is executed.

    Raises:
        CheckpointError: spandrel is not installed, or does not know such weights, or they are of no RGB upscaler.
    """
    state = weights.read(path)
    try:
        spandrel: Any = importlib.import_module("spandrel")
    except ImportError as error:
        beside = "has no config.json beside it, so it is not a model of sisr's; " if _may_be_ours(path) else ""
        raise CheckpointError(f"{path} {beside}weights of other projects need: pip install 'sisr[zoo]'") from error
    try:
        found = spandrel.ModelLoader().load_from_state_dict(spandrel.canonicalize_state_dict(state))
    except spandrel.UnsupportedModelError as error:
        beside = "has no config.json beside it, as a model of sisr's would, and " if _may_be_ours(path) else ""
        raise CheckpointError(f"{path} {beside}is of no architecture that spandrel knows") from error
    except Exception as error:  # it guesses sizes from shapes, and fails in many ways
        raise CheckpointError(f"{path} looks like weights that spandrel knows, but does not fit: {error}") from error
    if not isinstance(found, spandrel.ImageModelDescriptor) or (found.input_channels, found.output_channels) != (3, 3):
        raise CheckpointError(
            f"{path} is a {found.architecture.name} for {found.input_channels} -> {found.output_channels} channels; "
            "wanted one that makes RGB images of RGB images"
        )
    return Recognised(found)


def _may_be_ours(path: Path) -> bool:
    return path.suffix == ".safetensors"
