"""How far a generator sees, measured: the context that exact tiling relies on."""

import pytest
import torch
from torch import nn

from sisr.nets.pixelshuffle import PixelShuffleNet
from sisr.nets.srez import SrezGenerator

GENERATORS = {
    "pixelshuffle": lambda: PixelShuffleNet(zero_last=False),
    "pixelshuffle x2 of 1 block": lambda: PixelShuffleNet(scale=2, num_blocks=1, zero_last=False),
    "srez": lambda: SrezGenerator((8, 8, 8)),
}


def without_global_statistics(network: nn.Module) -> nn.Module:
    """Take out group normalisation, whose statistics are of the whole image whatever the halo."""
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, nn.Identity())
    return network


def measured_halo(network: nn.Module, side: int) -> int:
    """Return how many lr pixels away from an output pixel's own an input pixel still changes it."""
    lr = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    centre = side // 2
    reach = 0
    for offset in range(network.scale):  # an output pixel at either end of its lr pixel reaches further
        sr = network(lr)
        pixel = sr[0, :, network.scale * centre + offset, network.scale * centre + offset].sum()
        (gradient,) = torch.autograd.grad(pixel, lr)
        rows = gradient.abs().sum(dim=(0, 1, 3)).nonzero().flatten() - centre
        reach = max(reach, int(rows.abs().max()))
    return reach


@pytest.mark.parametrize("name", GENERATORS)
def test_the_halo_is_what_an_output_pixel_depends_on(name):
    torch.manual_seed(0)
    network = without_global_statistics(GENERATORS[name]()).double().eval()
    assert measured_halo(network, side=2 * network.halo + 9) == network.halo


def test_batch_statistics_have_no_halo():
    assert SrezGenerator((8, 8, 8), batch_statistics=True).halo is None


def test_pixelshuffle_gives_the_same_in_both_memory_layouts():
    torch.manual_seed(0)
    network, lr = PixelShuffleNet(zero_last=False).double(), torch.rand(2, 3, 9, 7).double()
    expected = network(lr)
    last = network.to(memory_format=torch.channels_last)(lr.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected)
