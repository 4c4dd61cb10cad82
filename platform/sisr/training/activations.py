"""Less memory for a generator's step: its blocks are computed again on the way back instead of being remembered."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from sisr.errors import ConfigError
from sisr.nets.batch_norm import BatchNorm


def recompute_blocks(network: nn.Module) -> None:
    """Let each block of a network remember its input alone, and compute itself a second time for its gradient.

    Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016. https://arxiv.org/abs/1604.06174
    Values and gradients stay the same, bit for bit where the device repeats itself. A copy that is made of the network
    later would compute with this one's weights: make it before.

    Raises:
        ConfigError: It has no repeated blocks, or batch normalisation, whose statistics would count each batch twice.
    """
    if any(isinstance(module, BatchNorm) for module in network.modules()):
        raise ConfigError(
            f"checkpoint_activations can't be used with {type(network).__name__}: its batch normalisation would count "
            "each batch twice; accumulate=N saves memory, too"
        )
    found = list(blocks(network))
    if not found:
        raise ConfigError(
            f"checkpoint_activations has no effect on {type(network).__name__}, which has no repeated blocks; "
            "accumulate=N saves memory, too"
        )
    for block in found:
        block.forward = partial(_recomputed, block.forward)


def blocks(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost modules of which several of one class lie side by side, and that consist of others."""
    children = list(network.children())
    kinds = Counter(type(child) for child in children if next(child.children(), None) is not None)
    for child in children:
        if kinds[type(child)] > 1:
            yield child
        else:
            yield from blocks(child)


def _recomputed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
