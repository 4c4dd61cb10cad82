"""What a generator costs, in numbers that do not depend on the machine."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sisr.inference.tiles import round_up

SIDE = 64  # px, of the lr for which multiply-adds are counted; rounded up to what the generator accepts


def num_parameters(generator: nn.Module) -> int:
    """Return how many numbers a generator has learned."""
    return sum(parameter.numel() for parameter in generator.parameters())


@torch.no_grad()  # not inference_mode, in which the counter does not see convolutions
def multiply_adds(generator: nn.Module) -> int:
    """Return how many multiplications with an addition one lr image of 64x64 px takes.

    Convolutions, matrix products and attention count; resampling, activations and normalisations do not.
    """
    like = next(generator.parameters(), torch.empty(0))
    side = round_up(SIDE, int(generator.size_multiple))  # type: ignore[arg-type]
    with FlopCounterMode(display=False) as counter:
        generator(torch.zeros(1, 3, side, side, dtype=like.dtype, device=like.device))
    return counter.get_total_flops() // 2
