"""An exponential moving average of the generator: what is validated, sampled and published."""

import copy

import torch
from torch import Tensor, nn

RAMP_UP = 0.05  # the half-life never exceeds this share of the images seen (Karras et al., 2020, StyleGAN2-ADA)


class Ema:
    """A copy of a network that follows it slowly.

    Parameters are averaged with a half-life measured in images, so that it means the same at every batch size;
    buffers, such as batch norm's running statistics, are already averages and are copied.
    """

    def __init__(self, network: nn.Module, half_life_images: float) -> None:
        """Start from the network's present weights; a half-life of 0 follows it exactly."""
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._half_life_images = half_life_images

    @torch.no_grad()
    def update(self, network: nn.Module, images_seen: int, batch_size: int) -> None:
        """Move towards `network` after a step on `batch_size` images; `images_seen` counts that batch."""
        mine: list[Tensor] = list(self.network.parameters())
        theirs: list[Tensor] = list(network.parameters())
        torch._foreach_lerp_(mine, theirs, 1.0 - self.decay(images_seen, batch_size))
        if kept := list(self.network.buffers()):
            torch._foreach_copy_(kept, list(network.buffers()))

    def decay(self, images_seen: int, batch_size: int) -> float:
        """Return the share of the old average that remains after one step."""
        half_life = min(self._half_life_images, RAMP_UP * images_seen)
        return 0.5 ** (batch_size / half_life) if half_life > 0 else 0.0
