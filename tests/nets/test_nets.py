"""How far a generator sees, measured: the context that exact tiling relies on; published networks by hand."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sisr.nets.compact import SRVGGNetCompact
from sisr.nets.encdec import EncoderDecoder
from sisr.nets.judges import VGGStyleDiscriminator
from sisr.nets.pixelshuffle import PixelShuffleNet
from sisr.nets.rrdb import RRDBNet
from sisr.nets.srez import SrezGenerator
from sisr.nets.srresnet import MSRResNet

GENERATORS = {
    "pixelshuffle": lambda: PixelShuffleNet(zero_last=False),
    "pixelshuffle x2 of 1 block": lambda: PixelShuffleNet(scale=2, num_blocks=1, zero_last=False),
    "srez": lambda: SrezGenerator((8, 8, 8)),
    "rrdb": lambda: RRDBNet(4, 1, 4, weight_scale=1.0),
    "compact": lambda: SRVGGNetCompact(4, 3),
    "compact x2": lambda: SRVGGNetCompact(4, 2, upscale=2),
    "encoder-decoder": lambda: EncoderDecoder(8),
    "srresnet x2": lambda: MSRResNet(4, 2, 2, weight_scale=1.0),
    "srresnet x3": lambda: MSRResNet(4, 2, 3, weight_scale=1.0),
    "srresnet x4": lambda: MSRResNet(4, 2, 4, weight_scale=1.0),
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
    centre = side // 2 // network.tiling.size_multiple * network.tiling.size_multiple
    reach = 0
    for row in range(network.tiling.scale * centre, network.tiling.scale * (centre + network.tiling.size_multiple)):
        (gradient,) = torch.autograd.grad(sr[0, :, row, :].sum(), lr, retain_graph=True)
        rows = gradient.abs().sum(dim=(0, 1, 3)).nonzero().flatten() - row // network.tiling.scale
        reach = max(reach, int(rows.abs().max()))
    return reach


@pytest.mark.parametrize("name", GENERATORS)
def test_the_halo_is_what_an_output_pixel_depends_on(name):
    torch.manual_seed(0)
    network = without_global_statistics(GENERATORS[name]()).double().eval()
    side = (2 * network.tiling.halo + 9) // network.tiling.size_multiple * network.tiling.size_multiple
    assert measured_halo(network, side) == network.tiling.halo


def test_batch_statistics_have_no_halo():
    assert SrezGenerator((8, 8, 8), batch_statistics=True).tiling.halo is None


def test_pixelshuffle_gives_the_same_in_both_memory_layouts():
    torch.manual_seed(0)
    network, lr = PixelShuffleNet(zero_last=False).double(), torch.rand(2, 3, 9, 7).double()
    expected = network(lr)
    last = network.to(memory_format=torch.channels_last)(lr.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected)


def test_srresnet_is_its_layers_one_after_another():
    torch.manual_seed(0)
    network, lr = MSRResNet(8, 2, weight_scale=1.0).double(), torch.rand(2, 3, 5, 6).double()
    weights = network.state_dict()

    def conv(name, x):
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)

    x = F.leaky_relu(conv("conv_first", lr), 0.1)
    for i in (0, 1):
        x = x + conv(f"body.{i}.conv2", conv(f"body.{i}.conv1", x).relu())
    for name in ("upconv1", "upconv2"):
        x = F.leaky_relu(nn.PixelShuffle(2)(conv(name, x)), 0.1)
    x = conv("conv_last", F.leaky_relu(conv("conv_hr", x), 0.1))
    torch.testing.assert_close(network(lr), x + nn.Upsample(scale_factor=4, mode="bilinear")(lr))


def test_srresnet_refuses_scales_that_it_has_no_layers_for():
    with pytest.raises(ValueError, match="MSRResNet needs scale 2, 3 or 4, got 8"):
        MSRResNet(scale=8)


def reference_discriminator(f: int) -> nn.Sequential:
    """The published layers for 32 pixels, with PyTorch's own batch normalisation; the same order of weights."""
    layers: list[nn.Module] = [nn.Conv2d(3, f, 3, 1, 1), nn.LeakyReLU(0.2)]
    layers += [nn.Conv2d(f, f, 4, 2, 1, bias=False), nn.BatchNorm2d(f), nn.LeakyReLU(0.2)]
    for n in (f, 2 * f):
        layers += [nn.Conv2d(n, 2 * n, 3, 1, 1, bias=False), nn.BatchNorm2d(2 * n), nn.LeakyReLU(0.2)]
        layers += [nn.Conv2d(2 * n, 2 * n, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * n), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * f, 100), nn.LeakyReLU(0.2), nn.Linear(100, 1))


@pytest.mark.parametrize("training", [True, False])
def test_the_vgg_discriminator_is_its_published_layers_and_loads_their_weights(training):
    torch.manual_seed(0)
    reference = reference_discriminator(4).double()
    reference(torch.rand(4, 3, 32, 32).double())  # running statistics other than 0 and 1
    pairs = [f"{kind}{i}_{j}" for i in range(3) for j in (0, 1) for kind in ("conv", "bn")]
    names = [*(name for name in pairs if name != "bn0_0"), "linear1", "linear2"]
    state = reference.state_dict()
    places = list(dict.fromkeys(key.split(".")[0] for key in state))
    renamed = dict(zip(places, names, strict=True))
    published = {f"{renamed[key.split('.')[0]]}.{key.split('.')[1]}": value for key, value in state.items()}
    assert any(key.endswith("num_batches_tracked") for key in published)

    ours = VGGStyleDiscriminator(4, 32).double().train(training)
    ours.load_state_dict(published)
    images = torch.rand(4, 3, 32, 32).double()
    torch.testing.assert_close(ours(images), reference.train(training)(images).squeeze(1))


def test_the_vgg_discriminator_says_which_sizes_it_takes():
    with pytest.raises(ValueError, match=r"wants images of 32x32 pixels, got \(32, 16\)"):
        VGGStyleDiscriminator(4, 32)(torch.rand(1, 3, 32, 16))
    with pytest.raises(ValueError, match="power of two of at least 8 as input_size, got 96"):
        VGGStyleDiscriminator(4, 96)
