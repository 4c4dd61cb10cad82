"""How far a generator sees, measured: the context that exact tiling relies on."""

from typing import Any

import pytest
import torch
from torch import nn

from sisr.nets.encdec import EncoderDecoder
from sisr.nets.pixelshuffle import PixelShuffleNet
from sisr.nets.rrdb import RRDBNet
from sisr.nets.srez import SrezGenerator

GENERATORS = {
    "pixelshuffle": lambda: PixelShuffleNet(zero_last=False),
    "pixelshuffle x2 of 1 block": lambda: PixelShuffleNet(scale=2, num_blocks=1, zero_last=False),
    "srez": lambda: SrezGenerator((8, 8, 8)),
    "rrdb": lambda: RRDBNet(4, 1, 4, weight_scale=1.0),
    "encoder-decoder": lambda: EncoderDecoder(8),
}


def without_global_statistics(network: nn.Module) -> Any:
    """Take out group normalisation, whose statistics are of the whole image whatever the halo."""
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, nn.Identity())
    return network


def measured_halo(network: Any, side: int) -> int:
    """Return how many lr pixels away from an output pixel's own an input pixel still changes it."""
    lr = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    sr = network(lr)
    centre = side // 2 // network.size_multiple * network.size_multiple
    reach = 0
    for row in range(network.scale * centre, network.scale * (centre + network.size_multiple)):
        (gradient,) = torch.autograd.grad(sr[0, :, row, :].sum(), lr, retain_graph=True)
        rows = gradient.abs().sum(dim=(0, 1, 3)).nonzero().flatten() - row // network.scale
        reach = max(reach, int(rows.abs().max()))
    return reach


@pytest.mark.parametrize("name", GENERATORS)
def test_the_halo_is_what_an_output_pixel_depends_on(name):
    torch.manual_seed(0)
    network = without_global_statistics(GENERATORS[name]()).double().eval()
    side = (2 * network.halo + 9) // network.size_multiple * network.size_multiple
    assert measured_halo(network, side) == network.halo


def test_batch_statistics_have_no_halo():
    assert SrezGenerator((8, 8, 8), batch_statistics=True).halo is None


def test_pixelshuffle_gives_the_same_in_both_memory_layouts():
    torch.manual_seed(0)
    network, lr = PixelShuffleNet(zero_last=False).double(), torch.rand(2, 3, 9, 7).double()
    expected = network(lr)
    last = network.to(memory_format=torch.channels_last)(lr.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected)
