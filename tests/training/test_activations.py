"""Blocks that are computed again on the way back."""

import copy

import pytest
import torch
from torch import nn

import foreign
from sisr.errors import ConfigError
from sisr.nets.rrdb import RRDB, RRDBNet
from sisr.training.activations import blocks, recompute_blocks


def gradients(network: nn.Module) -> tuple[torch.Tensor, ...]:
    lr = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    trained = [p for p in network.parameters() if p.requires_grad]
    return torch.autograd.grad(network(lr).square().mean(), trained)


def remembered(network: nn.Module) -> int:
    """Return the bytes that a forward pass keeps for the way back."""
    kept: list[int] = []
    lr = torch.rand(2, 3, 16, 16)

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(lr)
    return sum(kept)


@pytest.mark.parametrize("name", ["rrdb", "SPAN", "SwinIR", "RealPLKSR"])
def test_gradients_are_the_same_bit_for_bit_and_less_is_remembered(name: str) -> None:
    torch.manual_seed(0)
    network: nn.Module = RRDBNet(8, 3, 4) if name == "rrdb" else foreign.build(name)
    whole, again = network, copy.deepcopy(network)
    recompute_blocks(again)
    assert all(torch.equal(one, other) for one, other in zip(gradients(whole), gradients(again), strict=True))
    assert remembered(again) < 0.5 * remembered(whole)
    with torch.no_grad():
        assert torch.equal(whole(torch.ones(1, 3, 16, 16)), again(torch.ones(1, 3, 16, 16)))


def test_the_outermost_repeated_blocks_are_taken() -> None:
    assert [type(block) for block in blocks(RRDBNet(8, 3, 4))] == [RRDB] * 3


def test_a_network_without_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match="no effect on SRVGGNetCompact, which has no repeated blocks"):
        recompute_blocks(foreign.build("Compact"))
