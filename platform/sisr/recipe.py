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

import math
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from sisr.data.crop import Crop
from sisr.data.draws import Draws


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


def cosine(step: int, total: int, warmup: int = 0) -> float:
    """Return the factor of a learning rate that rises over `warmup` steps to 1 and falls along half a cosine to 0.

    Loshchilov & Hutter, "SGDR", 2017, equation 5, without restarts. https://arxiv.org/abs/1608.03983
    Schedules are pure functions of the step, so that a resumed run needs no scheduler state.

    Args:
        step: Counts from 0; from `total` on the factor is 0.
        total: Length of the whole run in steps, warm-up included.
        warmup: Steps of linear rise; the first step already has 1 / warmup of the rate.
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def halving(step: int, every: int) -> float:
    """Return 1/2 to the power of how often `every` steps have passed: a factor of a learning rate."""
    return float(0.5 ** (step // every))


def set_learning_rate(optimizer: Optimizer, value: float) -> None:
    """Set the learning rate of all of an optimizer's parameters.

    Recipes call it at the start of each step: whatever a checkpoint held, the configured rate holds.
    """
    for group in optimizer.param_groups:
        group["lr"] = value


__all__ = [
    "Crop",
    "Draws",
    "Recipe",
    "RecipeModule",
    "Update",
    "cosine",
    "halving",
    "parameter_count",
    "set_learning_rate",
]
