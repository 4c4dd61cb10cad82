"""The contract between a recipe and the platform.

A recipe file holds every decision its paper makes and no decision it doesn't: networks, losses, update order,
degradation, default hyperparameters. It knows no Ray, MLflow, command line, rank, precision or file. The module exports

* `Config`: a frozen `sisr.config.Settings`, every field with meaning, unit and range; at least `scale`, `batch_size`
  and `steps`;
* `generator(config)`: the generator alone, so that inference never builds a judge or a perceptual network. It has the
  attributes `scale`; `halo`, lr px that an output pixel looks to each side (None: the whole image); and
  `size_multiple`, lr px that both sides must be a multiple of;
* `Recipe(config)`: what the protocol below describes;
* `tiny()`: the smallest `Config` that runs every branch of the recipe.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from sisr.draws import Draws


@dataclass(frozen=True, kw_only=True)
class Crop:
    """How one high-resolution training example is cut from a source image.

    A window of `source_side` pixels is taken at random (inside `box`, where given) and, where it is larger than
    `side`, averaged down to `side` pixels. Colour factors are uniform in 1 - x .. 1 + x (brightness: an offset in
    -x .. x), drawn once per example.
    """

    side: int  # px, of the hr example
    source_side: int | None = None  # px, of the window in the source image; None: side; a multiple of side
    box: tuple[int, int, int, int] | None = None  # px, (x, y, width, height) that windows stay in; None: whole image
    flip: bool = True  # left-right, with probability 1/2
    turn: bool = False  # transposed, with probability 1/2, and upside down, with probability 1/2
    rotate_degrees: float = 0.0  # rotated by an angle uniform in 0 .. this
    saturation: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0

    @property
    def window(self) -> int:
        """Side in pixels of the window cut from the source image."""
        return self.source_side or self.side


class Update(Protocol):
    """The only door between mathematics and distribution."""

    def __call__(self, optimizer: Optimizer, loss: Tensor, *, retain_graph: bool = False) -> None:
        """Step `optimizer` along the gradient of `loss`, averaged over all workers.

        Gradients are taken for this optimizer's parameters only. `loss` is a scalar: a mean over the examples.
        `retain_graph` keeps the graph for a second loss that shares part of it.
        """
        ...


class Recipe(Protocol):
    """What the training loop needs of a recipe."""

    scale: int  # hr side / lr side
    crop: Crop
    generator: nn.Module  # lr (n, 3, h, w) in [0, 1] -> sr (n, 3, scale * h, scale * w)

    def parts(self) -> dict[str, nn.Module | Optimizer]:
        """Return everything with state, by name: it is moved, checkpointed, compiled and hashed."""
        ...

    def degrade(self, hr: Tensor, draws: Draws) -> Tensor:
        """Return lr (n, 3, h, w) made from hr (n, 3, scale * h, scale * w), on hr's device."""
        ...

    def train_step(self, lr: Tensor, hr: Tensor, draws: Draws, step: int, update: Update) -> dict[str, Tensor]:
        """Update every network once; return the scalars to log, such as `generator/pixel`."""
        ...


class RecipeModule(Protocol):
    """What a recipe's module exports."""

    Config: type[Any]

    def Recipe(self, config: Any) -> Recipe: ...  # noqa: D102

    def generator(self, config: Any) -> nn.Module: ...  # noqa: D102

    def tiny(self) -> Any: ...  # noqa: D102


def parameter_count(module: nn.Module) -> int:
    """Return the number of trainable values in a network."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


__all__ = ["Crop", "Draws", "Recipe", "RecipeModule", "Update", "parameter_count"]
