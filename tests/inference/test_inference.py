"""Upscaling in tiles against upscaling in one piece."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from sisr import recipes
from sisr.errors import DataError
from sisr.inference import tiled as inference
from sisr.inference.halo import measured_halo
from sisr.inference.probe import footprint
from sisr.inference.tiled import USABLE, Bicubic, TiledImage, upscale
from sisr.recipe import Generator, Tiling


class LocalNet(Generator):
    """Two 3x3 convolutions and PixelShuffle."""

    tiling = Tiling(2, halo=2)

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 12, 3, padding=1)

    def forward(self, lr):
        return functional.pixel_shuffle(self.last(functional.relu(self.first(lr))), self.tiling.scale)


class NormalisedNet(LocalNet):
    """Group normalisations at both resolutions, one of them without weights."""

    tiling = Tiling(2, halo=3)

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, 8)
        self.end = nn.Sequential(nn.GroupNorm(1, 3, affine=False), nn.Conv2d(3, 3, 3, padding=1))
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)

    def forward(self, lr):
        x = functional.relu(self.norm(self.first(lr)))
        return self.end(functional.pixel_shuffle(self.last(x), self.tiling.scale))


class PooledNet(LocalNet):
    """Half the size and back, so that sides must be even and tiles must keep to the grid."""

    tiling = Tiling(2, halo=9, size_multiple=4)

    def forward(self, lr):
        x = functional.max_pool2d(functional.relu(self.first(lr)), 4)
        return functional.pixel_shuffle(self.last(functional.interpolate(x, scale_factor=4)), self.tiling.scale)


class MirroredNet(LocalNet):
    """Reflects its edges, so that it needs as many pixels as it looks beyond them."""

    tiling = Tiling(2, halo=8, size_multiple=2, minimum=9)

    def forward(self, lr):
        self.require_images(lr)
        mirrored = functional.pad(lr, (8, 8, 8, 8), mode="reflect")
        mean = functional.avg_pool2d(mirrored, 17, stride=1)
        return functional.interpolate(mean, scale_factor=2)


class GlobalNet(LocalNet):
    """Every output pixel depends on all of the image."""

    tiling = Tiling(2, halo=None)

    def forward(self, lr):
        return super().forward(lr) + 0.5 - lr.mean()


class AttendingNet(LocalNet):
    """Every pixel attends to all others."""

    tiling = Tiling(2, halo=None)

    def forward(self, lr):
        x = self.first(lr).flatten(2).transpose(1, 2)
        weights = functional.softmax(x @ x.transpose(1, 2), dim=2)
        x = (weights @ x).transpose(1, 2).reshape(len(lr), -1, *lr.shape[2:])
        return functional.pixel_shuffle(self.last(x), self.tiling.scale)


class UnprovenNet(LocalNet):
    """What it looks at is not known: 2 px."""

    tiling = Tiling(2, halo=None)


def build(kind: type[LocalNet]) -> LocalNet:
    torch.manual_seed(0)
    return kind().double().eval()


def image(height: int, width: int, n: int = 1) -> torch.Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("kind", [LocalNet, NormalisedNet, PooledNet])
@pytest.mark.parametrize("tile", [1, 5, 8, 17])
def test_tiles_equal_the_whole_image(kind, tile):
    generator, lr = build(kind), image(21, 34, n=2)
    torch.testing.assert_close(upscale(generator, lr, tile=tile), upscale(generator, lr, tile=0), rtol=0, atol=1e-12)


def test_a_large_mean_costs_the_statistics_no_digits():
    generator, lr = build(NormalisedNet), image(20, 20) + 1e4
    torch.testing.assert_close(upscale(generator, lr, tile=7), upscale(generator, lr, tile=0), rtol=0, atol=1e-6)


def test_the_whole_image_is_one_plain_forward_pass():
    generator, lr = build(NormalisedNet), image(11, 13)
    with torch.no_grad():
        assert torch.equal(upscale(generator, lr, tile=0), generator(lr))


def test_sides_that_the_generator_refuses_are_padded_and_cut():
    generator, lr = build(PooledNet), image(10, 13)
    padded = torch.cat([lr, lr.flip(3)[..., :3]], dim=3)
    padded = torch.cat([padded, padded.flip(2)[..., :2, :]], dim=2)
    with torch.no_grad():
        expected = generator(padded)[..., :20, :26]
    assert torch.equal(upscale(generator, lr, tile=0), expected)


def test_bicubic_in_tiles_has_no_seams():
    lr = image(15, 22)
    whole = Bicubic(3)(lr)
    torch.testing.assert_close(upscale(Bicubic(3), lr, tile=4), whole, rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_upscales_in_tiles_as_in_one_piece(name):
    torch.manual_seed(0)
    module = recipes.load(name)
    generator = module.generator(module.tiny()).double().eval()
    halo = generator.tiling.halo
    if not isinstance(halo, int):
        pytest.skip(f"{name} depends on the whole image")
    for parameter in generator.parameters():
        nn.init.normal_(parameter, std=0.2)  # a last layer of zeros would hide every difference
    lr = image(3 * halo, 2 * halo + 9)
    torch.testing.assert_close(upscale(generator, lr, tile=8), upscale(generator, lr, tile=0), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("height", "width"), [(1, 3), (5, 40), (21, 10)])
def test_no_tile_is_smaller_than_the_generator_takes(height, width):
    generator, lr = build(MirroredNet), image(height, width)
    whole = upscale(generator, lr, tile=0)
    assert whole.shape == (1, 3, 2 * height, 2 * width)
    for tile in (1, 4, 20):
        assert upscale(generator, lr, tile=tile).shape == whole.shape
    inner = (slice(None), slice(None), slice(0, 2 * height - 16), slice(0, 2 * width - 16))
    torch.testing.assert_close(upscale(generator, lr, tile=4)[inner], whole[inner], rtol=0, atol=1e-9)


def test_one_pixel_becomes_scale_squared():
    assert upscale(build(NormalisedNet), image(1, 1)).shape == (1, 3, 2, 2)


def test_a_generator_that_needs_the_whole_image_refuses_tiles():
    dark_left = image(8, 90) * (torch.arange(90) > 45)
    with pytest.raises(DataError, match="can't work in tiles"):
        upscale(build(GlobalNet), dark_left, tile=4)


@pytest.mark.slow
def test_an_image_too_large_for_a_generator_without_tiles_is_refused(monkeypatch):
    monkeypatch.setattr(inference, "free_bytes", lambda: 10_000)
    with pytest.raises(DataError, match=r"enough for .* megapixels"):
        upscale(build(AttendingNet), image(64, 64))


def test_tiles_shrink_with_the_memory_that_they_may_take(monkeypatch):
    generator = build(LocalNet)
    monkeypatch.setattr(inference, "free_bytes", lambda: footprint(generator).bytes_per_px * 100 * 100 / USABLE)
    passes = TiledImage(generator, 960, 96, lambda rows, columns: torch.empty(0)).num_passes
    assert passes == 10  # 96 px of core and 2 px of halo on each side


def test_what_fits_into_memory_is_computed_in_tiles_where_these_are_quicker(monkeypatch):
    generator = build(LocalNet)
    monkeypatch.setattr(inference, "KEPT_BYTES", footprint(generator).bytes_per_px / 4 * 100 * 100)
    assert TiledImage(generator, 200, 200, lambda rows, columns: torch.empty(0)).num_passes == 1
    assert TiledImage(generator, 288, 192, lambda rows, columns: torch.empty(0)).num_passes == 6  # 96 px of core
    assert TiledImage(build(UnprovenNet), 288, 192, lambda rows, columns: torch.empty(0)).num_passes == 1


def test_a_small_image_is_done_in_one_pass():
    assert TiledImage(build(NormalisedNet), 100, 100, lambda rows, columns: torch.empty(0)).num_passes == 1


def test_progress_counts_every_pass():
    generator, lr, done = build(NormalisedNet), image(20, 20), []
    tiled = TiledImage(generator, 20, 20, lambda rows, columns: lr[:, :, rows[:, None], columns], tile=10)
    for row in tiled.rows(on_pass=lambda: done.append(1)):
        list(row)
    assert len(done) == tiled.num_passes == 4 * 3


def test_a_generator_that_lies_about_its_scale_is_caught():
    class Liar(Bicubic):
        def forward(self, lr):
            return super().forward(lr)[..., :-2]

    generator = Liar(2)
    with pytest.raises(ValueError, match="generator of scale 2"):
        upscale(generator, image(8, 8), tile=0)


def test_a_smaller_halo_costs_seams_and_nothing_inside_the_tiles():
    generator, lr = build(LocalNet), image(12, 24)
    whole, cheap = upscale(generator, lr, tile=0), upscale(generator, lr, tile=12, halo=0)
    seam = (whole - cheap).abs().amax(dim=(0, 1, 2))
    assert seam[20:28].min() > 1e-3
    assert max(seam[:20].max(), seam[28:].max()) < 1e-12


def test_memory_is_estimated_for_the_largest_tile():
    generator = build(LocalNet)
    tiled = TiledImage(generator, 50, 20, lambda rows, columns: torch.empty(0), tile=10)
    assert tiled.memory_bytes == footprint(generator).bytes_per_px * 14 * 12
    assert tiled.num_px == 10 * 14 * 12


def tiles_of(generator: LocalNet, lr: torch.Tensor, **options) -> TiledImage:
    height, width = lr.shape[2:]
    return TiledImage(generator, height, width, lambda rows, columns: lr[:, :, rows[:, None], columns], **options)


def test_an_unknown_reach_is_measured():
    generator, lr = build(UnprovenNet), image(30, 40)
    assert measured_halo(generator) == 2
    torch.testing.assert_close(upscale(generator, lr, tile=9), upscale(generator, lr, tile=0), rtol=0, atol=1e-12)
    assert tiles_of(generator, lr, tile=9).note.endswith(
        "2 px of context; largest difference measured on a sample: 0.0 grey levels"
    )
    assert tiles_of(generator, lr, tile=0).note == ""


@pytest.mark.slow
def test_attention_to_the_whole_image_works_in_tiles_only_where_the_user_insists():
    generator, lr = build(AttendingNet), image(40, 40)
    with pytest.raises(DataError, match=r"attends to the whole image.*--halo"):
        upscale(generator, lr, tile=16)
    assert upscale(generator, lr, tile=16, halo=8).shape == (1, 3, 80, 80)
    assert "largest difference measured on a sample" in tiles_of(generator, lr, tile=16, halo=8).note


def test_a_halo_below_the_network_s_own_is_called_approximate():
    assert "the network looks 2 px far" in tiles_of(build(LocalNet), image(40, 40), tile=16, halo=1).note
    assert tiles_of(build(LocalNet), image(40, 40), tile=16, halo=2).note == ""
