"""A generator used in other ways."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from sisr.data.bicubic import resize
from sisr.data.images import Picture
from sisr.inference.prepared import Prepared
from sisr.inference.tiled import Bicubic, upscale
from sisr.inference.variants import InFormat, Rescaled, SelfEnsemble
from sisr.nets.pixelshuffle import PixelShuffleNet
from sisr.recipe import Generator, Tiling


class Net(Generator):
    """Two convolutions and PixelShuffle; `size_multiple` 2."""

    tiling = Tiling(2, halo=2, size_multiple=2)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, padding=1)

    def forward(self, lr):
        self.require_images(lr)
        return functional.pixel_shuffle(self.last(functional.relu(self.first(lr))), 2)


def image(height: int, width: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=dtype)


@torch.no_grad()
def test_the_mean_of_all_turns_turns_with_the_image():
    generator, lr = SelfEnsemble(Net().double().eval()), image(10, 14)
    made = generator(lr)
    torch.testing.assert_close(generator(lr.rot90(1, (2, 3))), made.rot90(1, (2, 3)), rtol=0, atol=1e-12)
    torch.testing.assert_close(generator(lr.flip(3)), made.flip(3), rtol=0, atol=1e-12)
    assert (made - generator.network(lr)).abs().max() > 1e-3


@torch.no_grad()
def test_what_turns_with_the_image_anyway_is_left_as_it_is():
    lr = image(9, 12)
    torch.testing.assert_close(SelfEnsemble(Bicubic(3))(lr), Bicubic(3)(lr), rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize(("own", "scale"), [(4, 2), (4, 1), (4, 3), (2, 3), (3, 4)])
def test_another_scale_is_matlabs_bicubic_of_the_sr(own, scale):
    lr = 0.1 + 0.8 * image(11, 8)
    sr = Bicubic(own)(lr).clamp(0, 1)[0].permute(1, 2, 0).numpy()
    expected = resize(sr, Fraction(scale, own))
    made = Rescaled(Bicubic(own), scale)(lr)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(made, expected, atol=1e-9)


@pytest.mark.parametrize("vary", [SelfEnsemble, lambda net: Rescaled(net, 3), lambda net: Rescaled(net, 1)])
def test_variants_work_in_tiles_as_in_one_piece(vary):
    generator, lr = vary(Net().double()).eval(), image(21, 34)
    torch.testing.assert_close(upscale(generator, lr, tile=8), upscale(generator, lr, tile=0), rtol=0, atol=1e-9)


@torch.no_grad()
def test_a_shorter_format_computes_what_autocast_computes():
    generator, lr = Net().eval(), image(8, 8, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = generator(lr)
    made = InFormat(generator, "bf16")(lr)
    assert made.dtype == torch.float32
    assert torch.equal(made, expected.float())


@torch.no_grad()
def test_a_shorter_format_works_in_tiles_with_group_normalisation():
    torch.manual_seed(0)
    generator = InFormat(PixelShuffleNet(2, 8, 8, 2, zero_last=False).eval(), "bf16")
    lr = image(40, 30, torch.float32)
    difference = (upscale(generator, lr, tile=16) - upscale(generator, lr, tile=0)).abs()
    assert difference.max() < 0.01


def picture(side: int = 40) -> Picture:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side + 3, 3), dtype=np.uint8)
    return Picture(pixels, None, grey=False)


class Coarse(Net):
    """Convolves numbers that bf16 does not hold."""

    def forward(self, lr):
        same = functional.conv2d(lr + 100, torch.eye(3)[:, :, None, None]) - 100
        return functional.interpolate(same, scale_factor=2)


@pytest.mark.parametrize(("generator", "chosen"), [(Net(), "bf16"), (Coarse(), "fp32")])
def test_a_format_is_chosen_by_the_first_picture(generator, chosen):
    prepared = Prepared(generator.eval(), "bf16", tried=True)
    prepared.look_at(picture())
    assert prepared.number_format == chosen
    assert bool(prepared.note) == (chosen == "fp32")
    assert (prepared.seconds(1000) or 0) > 0


def test_a_format_that_was_asked_for_is_not_questioned():
    prepared = Prepared(Coarse().eval(), "bf16")
    prepared.look_at(picture())
    assert prepared.number_format == "bf16"


def test_the_time_is_known_from_large_pictures_only():
    prepared = Prepared(Net().eval())
    prepared.look_at(picture(40))
    assert prepared.seconds(10**6) is None
    prepared.look_at(picture(300))
    assert prepared.seconds(2 * 10**6) == pytest.approx(2 * (prepared.seconds(10**6) or 0))
    prepared.took(10**6, 50.0)
    assert prepared.seconds(10**5) == pytest.approx(5.0)
