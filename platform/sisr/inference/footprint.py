"""What one forward pass of a generator takes."""

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sisr.inference.tiles import round_up

PROBE_SIDE = 32  # px, of the image on which a generator is measured
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
def measure(generator: nn.Module) -> Footprint:
    """Return a generator's footprint, from one pass over a small image; measured once per generator."""
    if generator not in _measured:
        like = next(generator.parameters(), torch.empty(0))
        side = round_up(PROBE_SIDE, int(generator.size_multiple))  # type: ignore[arg-type]
        lr = torch.full((1, 3, side, side), 0.5, dtype=like.dtype, device=like.device)
        with _Watch() as watch:
            generator(lr)
        _measured[generator] = Footprint(OVERHEAD * watch.most_bytes / side**2, watch.num_group_norms)
    return _measured[generator]


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
