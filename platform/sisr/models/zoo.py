"""Other people's weights as generators: what the optional package spandrel recognises, by the weights alone."""

import importlib
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sisr.errors import CheckpointError
from sisr.inference.probe import PROBE_SIDE, receptive_radius
from sisr.models import weights
from sisr.recipe import Generator, Tiling


class Recognised(Generator):
    """A network of spandrel's as a generator."""

    def __init__(self, found: Any) -> None:
        super().__init__()
        self.network: nn.Module = found.model.float().eval()
        self._found = found
        self.architecture = f"{found.architecture.name} {' '.join(found.tags)}".strip()
        needs = found.size_requirements
        anywhere = Tiling(int(found.scale), None, int(needs.multiple_of), max(1, int(needs.minimum)))
        self.tiling = anywhere  # the network is watched on an image that it takes
        radius = receptive_radius(self, anywhere.padded(PROBE_SIDE))
        self.tiling = Tiling(anywhere.scale, radius, anywhere.size_multiple, anywhere.minimum)

    def forward(self, lr: Tensor) -> Tensor:
        """Return sr (n, 3, scale * h, scale * w) in [0, 1]; spandrel clamps."""
        self.require_images(lr)
        sr: Tensor = self._found(lr)
        return sr


def recognise(path: Path) -> Recognised:
    """Return the network that a weights file belongs to, with these weights; nothing in the file is executed.

    Raises:
        CheckpointError: spandrel is not installed, or does not know such weights, or they are of no RGB upscaler.
    """
    state = weights.read(path)
    may_be_ours = path.suffix.lower() == ".safetensors"
    try:
        spandrel: Any = importlib.import_module("spandrel")
    except ImportError as error:
        beside = "has no config.json beside it, so it is not a model of sisr's; " if may_be_ours else ""
        raise CheckpointError(f"{path} {beside}weights of other projects need: pip install 'sisr[zoo]'") from error
    try:
        found = spandrel.ModelLoader().load_from_state_dict(spandrel.canonicalize_state_dict(state))
    except spandrel.UnsupportedModelError as error:
        beside = "has no config.json beside it, as a model of sisr's would, and " if may_be_ours else ""
        raise CheckpointError(f"{path} {beside}is of no architecture that spandrel knows") from error
    except Exception as error:  # it guesses sizes from shapes, and fails in many ways
        raise CheckpointError(
            f"{path} looks like weights that spandrel knows, but their sizes are not those of a published network: "
            f"{weights.first_line(error)}"
        ) from error
    if not isinstance(found, spandrel.ImageModelDescriptor) or (found.input_channels, found.output_channels) != (3, 3):
        raise CheckpointError(
            f"{path} is a {found.architecture.name} for {found.input_channels} -> {found.output_channels} channels; "
            "a model must make RGB images of RGB images"
        )
    return Recognised(found)
