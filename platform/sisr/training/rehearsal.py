"""A few steps of a recipe without data, loop or host: what its checks and tests look at."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sisr.data.draws import Draws
from sisr.recipe import RecipeModule, build_recipe, parts_of
from sisr.training.batch_split import split_batch
from sisr.training.device import autocast
from sisr.training.update import Updates

SEED = 3
STEPS = 4


class Trainer:
    """A recipe made from `tiny()` and the steps of one of `world` workers, on images of noise."""

    def __init__(
        self,
        module: RecipeModule,
        dtype: torch.dtype = torch.float32,
        rank: int = 0,
        world: int = 1,
        batch_size: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """Build the recipe; every worker draws the same weights. `batch_size`: other than that of `tiny()`."""
        self.config = module.tiny()
        if batch_size is not None:
            self.config = self.config.model_copy(update={"batch_size": batch_size})
        torch.manual_seed(SEED)
        self.recipe = build_recipe(module, self.config)
        self.parts: dict[str, Any] = parts_of(self.recipe)
        self.networks = {k: v for k, v in self.parts.items() if isinstance(v, nn.Module)}
        self.optimizers = {k: v for k, v in self.parts.items() if isinstance(v, Optimizer)}
        for network in self.networks.values():
            network.to(device, dtype)
        self.updates = Updates(self.optimizers, world=world)
        mine = split_batch(self.config.batch_size, rank, world).micro[0]
        self.device = torch.device(device)
        self.dtype, self.first, self.count, self.weight = dtype, mine.first, mine.count, mine.weight

    def hr(self, step: int) -> Tensor:
        """Return this worker's part of a step's images."""
        side, random = self.recipe.crop.side, torch.Generator().manual_seed(step)
        images = torch.rand(self.config.batch_size, 3, side, side, generator=random, dtype=torch.float64)
        return images[self.first : self.first + self.count].to(self.device, self.dtype)

    def step(self, step: int, number_format: str = "fp32") -> dict[str, Tensor]:
        """Take one step and return what it logs."""
        draws = Draws(SEED, step, self.first, self.count, self.device)
        hr = self.hr(step)
        lr = self.recipe.degrade(hr, draws)
        self.updates.begin(weight=self.weight)
        with autocast(number_format, self.device):
            logged: dict[str, Tensor] = self.recipe.train_step(lr, hr, draws, step, self.updates)
        return logged

    def run(self, steps: range, number_format: str = "fp32") -> list[dict[str, Tensor]]:
        """Take several steps and return what each logs."""
        return [self.step(step, number_format) for step in steps]

    def state(self) -> dict[str, Any]:
        """Return the state of every part."""
        return {name: part.state_dict() for name, part in self.parts.items()}


def tensors(value: Any) -> dict[str, Tensor]:
    """Return all tensors in nested state dicts by their path."""
    if isinstance(value, Tensor):
        return {"": value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {f"{key}.{path}": tensor for key, item in items for path, tensor in tensors(item).items()}


def different(one: Any, other: Any) -> list[str]:
    """Return the paths of all tensors in two nested state dicts that are not the same bit for bit."""
    left, right = tensors(one), tensors(other)
    both = left.keys() & right.keys()
    return sorted(left.keys() ^ right.keys()) + [path for path in both if not torch.equal(left[path], right[path])]
