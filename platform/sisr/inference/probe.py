"""What a generator takes and costs, found by watching one forward pass over a small image."""

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from sisr.recipe import Generator

MEMORY_SIDE = 32  # px, of the lr on which memory is measured
COST_SIDE = 64  # px, of the lr for which multiply-adds are counted
OVERHEAD = 2.0  # tensors kept for skip connections and the convolutions' own workspace, as a factor on the largest step

# Inference mode shows the one, other modes the other.
_GROUP_NORMS = (torch.ops.aten.group_norm, torch.ops.aten.native_group_norm)


@dataclass(frozen=True)
class Footprint:
    """Of a generator, whatever the image's size."""

    bytes_per_px: float  # of memory at the peak, per px of lr: an estimate
    num_group_norms: int  # calls of group normalisation


_measured: WeakKeyDictionary[nn.Module, Footprint] = WeakKeyDictionary()


@torch.inference_mode()
def footprint(generator: Generator) -> Footprint:
    """Return a generator's footprint; measured once per generator."""
    if generator not in _measured:
        lr = _grey(generator, MEMORY_SIDE)
        with _Watch() as watch:
            generator(lr)
        _measured[generator] = Footprint(OVERHEAD * watch.most_bytes / lr[0, 0].numel(), watch.num_group_norms)
    return _measured[generator]


@torch.no_grad()  # not inference_mode, in which the counter does not see convolutions
def multiply_adds(generator: Generator) -> int:
    """Return how many multiplications with an addition one lr image of 64x64 px takes.

    Convolutions, matrix products and attention count; resampling, activations and normalisations do not. The image is
    larger where the generator does not take this size.
    """
    with FlopCounterMode(display=False) as counter:
        generator(_grey(generator, COST_SIDE))
    return counter.get_total_flops() // 2


def _grey(generator: Generator, side: int) -> Tensor:
    """Return a grey lr image of at least `side` px, in the generator's type and on its device."""
    like = next(generator.parameters(), torch.empty(0))
    side = generator.tiling.padded(side)
    return torch.full((1, 3, side, side), 0.5, dtype=like.dtype, device=like.device)


class _Watch(TorchDispatchMode):
    """Remembers the largest sum of one operation's inputs and outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.most_bytes = 0
        self.num_group_norms = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, Tensor)]
        self.most_bytes = max(self.most_bytes, sum(t.nbytes for t in tensors if not isinstance(t, nn.Parameter)))
        self.num_group_norms += func.overloadpacket in _GROUP_NORMS
        return out
