"""The contract between a recipe and the platform, and all that a recipe usually imports.

A recipe file holds every decision its paper makes and no decision it doesn't: networks, losses, update order,
degradation, default hyperparameters. It knows no Ray, MLflow, command line, rank, precision or file. The module exports

* `Config`: a class derived from `Settings`, every field with meaning, unit and range; at least `scale`, `batch_size`
  and `steps`. Its `presets`, where it has any, are settings that go together, for a machine or a kind of images;
* `generator(config)`: a `Generator` alone, so that inference never builds a judge or a perceptual network;
* `Recipe(config)`: what the protocol below describes;
* `tiny()`: the smallest `Config` that runs every branch of the recipe;
* `adopt(architecture)`, where any network may be trained: the settings with which the generator is that network. The
  setting `network` may then name a model instead, whose weights are the generator's first.
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from sisr.config.degradation import Degradation as Degradation
from sisr.config.degradation import RealEsrgan as RealEsrgan
from sisr.config.settings import Field as Field
from sisr.config.settings import Preset as Preset
from sisr.config.settings import Settings as Settings
from sisr.data import degradations as degradations
from sisr.data.augment import Crop
from sisr.data.draws import Draws
from sisr.errors import ConfigError
from sisr.losses import pixel as pixel
from sisr.nets.generator import Generator, as_generator
from sisr.nets.generator import Tiling as Tiling


@dataclass(frozen=True)
class Judge:
    """A network that learns to tell hr from sr, and what its outputs are called.

    `train_step` logs their means as `NETWORK/real_OUTPUTS`, on hr, and `NETWORK/fake_OUTPUTS`, on sr.
    """

    network: str  # its name in `parts_of`
    outputs: str  # such as logits, or scores of a critic

    def scalar(self, side: str) -> str:
        """Return the name of the mean output on hr, where `side` is real, or on sr, where it is fake."""
        return f"{self.network}/{side}_{self.outputs}"


@dataclass(frozen=True)
class Roles:
    """What the platform may conclude from the names of a recipe's parts and scalars; it concludes nothing else."""

    judges: tuple[Judge, ...] = ()  # with a judge, the best checkpoint is that of the best score, not of the best PSNR
    judges_alone: int = 0  # steps at the start in which the generator does not learn
    pixel_loss: str = "generator/pixel"  # the scalar, where it is logged, by which a run that explodes is noticed


class Update(Protocol):
    """The only door between mathematics and distribution."""

    def __call__(self, optimizer: Optimizer, loss: Tensor, *, retain_graph: bool = False) -> None:
        """Step `optimizer` along the gradient of `loss`, averaged over all workers.

        Gradients are taken for this optimizer's parameters only. `loss` is a scalar: a mean over the examples.
        `retain_graph` keeps the graph for a second loss that shares part of it.
        """
        ...


class Recipe(Protocol):
    """What the training loop needs of a recipe.

    Networks and optimizers are attributes of any name (`parts_of`); `roles` says what some are for (`roles_of`).
    """

    @property
    def crop(self) -> Crop:
        """How an hr example is cut from an image."""
        ...

    @property
    def generator(self) -> Generator:
        """The network that is trained to be used."""
        ...

    def degrade(self, hr: Tensor, draws: Draws) -> Tensor:
        """Return lr (n, 3, h, w) made from hr (n, 3, scale * h, scale * w), on hr's device.

        It is not called where the images are pairs, which bring their own lr.
        """
        ...

    def train_step(self, lr: Tensor, hr: Tensor, draws: Draws, step: int, update: Update) -> dict[str, Tensor]:
        """Update every network once; return the scalars to log, detached, such as `generator/pixel`."""
        ...


class RecipeModule(Protocol):
    """What a recipe's module exports."""

    Config: type[Any]

    def Recipe(self, config: Any) -> Recipe: ...  # noqa: D102

    def generator(self, config: Any) -> Generator: ...  # noqa: D102

    def tiny(self) -> Any: ...  # noqa: D102


def build_recipe(module: RecipeModule, config: Any) -> Recipe:
    """Return a module's recipe with new networks and optimizers; raise ConfigError if no generator has a `tiling`."""
    recipe = module.Recipe(config)
    network = getattr(recipe, "generator", None)
    if not isinstance(network, nn.Module):
        raise ConfigError(f"Recipe.generator must be a sisr.recipe.Generator, got {network!r}")
    as_generator(network)
    return recipe


def parts_of(recipe: Recipe) -> dict[str, nn.Module | Optimizer]:
    """Return all networks and optimizers among a recipe's attributes, by name.

    They are its state: moved to the device, checkpointed, compiled and hashed. A recipe may have a method `parts` that
    returns them instead, as those had to that were recorded by the first version.
    """
    if hasattr(recipe, "parts"):
        return dict(recipe.parts())
    return {name: value for name, value in vars(recipe).items() if isinstance(value, nn.Module | Optimizer)}


def stepped_networks(parts: dict[str, nn.Module | Optimizer]) -> dict[str, str]:
    """Return for each optimizer, by name, the name of the network whose values it steps."""
    owners = {p: name for name, part in parts.items() if isinstance(part, nn.Module) for p in part.parameters()}
    firsts = {name: part.param_groups[0]["params"][0] for name, part in parts.items() if isinstance(part, Optimizer)}
    return {name: owners[first] for name, first in firsts.items() if first in owners}


def roles_of(recipe: Recipe) -> Roles:
    """Return the roles that a recipe declares as its attribute `roles`.

    One that declares none has the judges that names meant before there were roles, so that recorded recipes go on
    working: `discriminator`, whose outputs are logits, and `critic`, whose outputs are scores.
    """
    declared: Roles | None = getattr(recipe, "roles", None)
    if declared is not None:
        return declared
    judges = (Judge("discriminator", "logits"), Judge("critic", "scores"))
    return Roles(tuple(judge for judge in judges if judge.network in parts_of(recipe)))


def parameter_count(module: nn.Module) -> int:
    """Return the number of trainable values in a network."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def cosine(step: int, total: int, warmup: int = 0) -> float:
    """Return the factor of a learning rate that rises over `warmup` steps to 1 and falls along half a cosine to 0.

    Loshchilov & Hutter, "SGDR", 2017, equation 5, without restarts. https://arxiv.org/abs/1608.03983
    Schedules are pure functions of the step, so that a resumed run needs no scheduler state. The first step, 0, already
    has 1 / warmup of the rate; from step `total` on, which counts the warm-up, too, the factor is 0.
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
