"""What a run will take before it begins: memory, and time of a step, from a few steps on images of noise."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sisr.data.draws import Draws
from sisr.losses.perceptual import cached_weights
from sisr.recipe import RecipeModule, build_recipe, parts_of
from sisr.training.device import autocast, resolve
from sisr.training.run import Options
from sisr.training.update import Updates

PATIENCE_S = 10.0  # no further step is taken after so long, even if the first one, which includes starting, is alone
MOST_STEPS = 6  # of which the fastest counts: other programs may have slowed the others
EXAMPLES = 2  # tried at a time on a CPU, where time and memory grow with their number; batch norm wants two


@dataclass(frozen=True)
class Estimate:
    """What training takes on one device, with the whole batch on it."""

    step_s: float
    state_bytes: int  # weights, gradients, what optimizers keep, the averaged generator, and networks of losses
    activation_bytes: int  # what one micro-batch keeps for its gradient, at most

    @property
    def memory_bytes(self) -> int:
        """Memory without that of Python and torch themselves."""
        return self.state_bytes + self.activation_bytes


def without_download(config: Any) -> Any:
    """Return a recipe's settings with random VGG-19 weights where the real ones would have to be downloaded."""
    wanted = getattr(config, "perceptual", None) == "imagenet" and not cached_weights().is_file()
    return config.model_copy(update={"perceptual": "random"}) if wanted else config


def estimate(module: RecipeModule, config: Any, options: Options, device: torch.device) -> Estimate:
    """Take the last step of a run a few times, as far as it is known without images, and measure the fastest.

    On a CPU a few examples stand for the whole batch, in proportion; a GPU, which is faster with many, gets a
    micro-batch of the real size. The last step has all the losses that the recipe has.

    Raises:
        torch.OutOfMemoryError: The device has too little memory.
    """
    micro = -(-config.batch_size // options.accumulate)
    count = min(EXAMPLES, micro) if device.type == "cpu" else micro
    recipe = build_recipe(module, without_download(config))
    parts = parts_of(recipe)
    networks = [part for part in vars(recipe).values() if isinstance(part, nn.Module)] or [recipe.generator]
    for network in networks:
        network.to(device)
        if options.channels_last:
            network.to(memory_format=torch.channels_last)
    updates = Updates({name: part for name, part in parts.items() if isinstance(part, Optimizer)})
    number_format = resolve(options.precision, device)
    hr = torch.rand(count, 3, recipe.crop.side, recipe.crop.side, device=device)
    saved = _Saved(networks)
    seconds, stop_at = math.inf, time.perf_counter() + PATIENCE_S
    for _ in range(MOST_STEPS):
        draws = Draws(0, config.steps - 1, 0, count, device)
        _wait(device)
        begun = time.perf_counter()
        updates.begin()

        def update(optimizer: Optimizer, loss: Tensor, *, retain_graph: bool = False) -> None:
            updates(optimizer, loss, retain_graph=retain_graph)
            saved.updated(retain_graph)

        with autocast(number_format, device), saved.watched():
            recipe.train_step(recipe.degrade(hr, draws), hr, draws, draws.step, update)
        _wait(device)
        seconds = min(seconds, time.perf_counter() - begun)
        if time.perf_counter() > stop_at:
            break
    trained = sum(p.nbytes for network in networks for p in network.parameters() if p.requires_grad)
    others = sum(t.nbytes for network in networks for t in (*network.parameters(), *network.buffers())) - trained
    average = sum(p.nbytes for p in recipe.generator.parameters())
    return Estimate(
        step_s=seconds * config.batch_size / count,
        state_bytes=4 * trained + others + average,
        activation_bytes=saved.peak * micro // count,
    )


class _Saved:
    """Counts what autograd keeps for the way back, each storage once, between two updates."""

    def __init__(self, networks: list[nn.Module]) -> None:
        self._weights = {p.untyped_storage().data_ptr() for network in networks for p in network.parameters()}
        self._live: dict[int, int] = {}
        self.peak = 0  # bytes

    def updated(self, retained: bool) -> None:
        self.peak = max(self.peak, sum(self._live.values()))
        if not retained:
            self._live.clear()

    @contextmanager
    def watched(self) -> Iterator[None]:
        with torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor):
            yield

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._weights:
            self._live[storage.data_ptr()] = storage.nbytes()
        return tensor


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
