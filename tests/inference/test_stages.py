"""Group normalisation in tiles: each layer once, the statistics those of the whole image."""

import tempfile

import pytest
import torch
from torch import nn
from torch.nn import functional

from sisr.errors import DataError, DiskError
from sisr.inference import memory
from sisr.inference.moments import Moments
from sisr.inference.parking import Level, Parking
from sisr.inference.tiled import TiledImage
from sisr.recipe import Generator, Tiling

CPU = torch.device("cpu")


class Counted(Generator):
    """Skips across normalisations, by views, by concatenation and in place; counts how many pixels its layers see."""

    tiling = Tiling(2, halo=4)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(16, 12, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)

    def forward(self, lr):
        x = self.first(lr)
        half = x[:, :4]
        y = self.norm(self.second(functional.relu(self.norm(x))))
        half.mul_(2)  # seen by x, after it was used
        x = torch.cat([x, y], dim=1)
        return functional.pixel_shuffle(self.last(x), 2) + functional.interpolate(lr, scale_factor=2)


def build() -> Counted:
    torch.manual_seed(0)
    return Counted().double().eval()


def image(height: int, width: int, n: int = 1) -> torch.Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def tiled(generator: Generator, lr: torch.Tensor, memory: float, tile: int = 9) -> torch.Tensor:
    def read(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        return lr[:, :, rows[:, None], columns]

    height, width = lr.shape[2:]
    found = TiledImage(generator, height, width, read, tile, memory=memory)
    return torch.cat([torch.cat(list(row), dim=3) for row in found.rows()], dim=2)


@pytest.mark.parametrize("memory_bytes", [0, 10**5, 10**9])
def test_skips_survive_the_wait_between_layers_in_memory_and_in_a_file(memory_bytes):
    generator, lr = build(), image(23, 31, n=2)
    with torch.no_grad():
        whole = generator(lr)
    torch.testing.assert_close(tiled(generator, lr, memory_bytes), whole, rtol=0, atol=1e-12)


def test_each_tile_is_read_once():
    generator, lr, reads = build(), image(20, 20), []

    def read(rows, columns):
        reads.append((rows.tolist(), columns.tolist()))
        return lr[:, :, rows[:, None], columns]

    for row in TiledImage(generator, 20, 20, read, tile=10).rows():
        list(row)
    assert len(reads) == 4


def test_a_generator_that_branches_on_values_is_refused():
    class Branching(Counted):
        def forward(self, lr):
            return super().forward(lr) if lr.mean() > 0.5 else super().forward(1 - lr)

    with pytest.raises(DataError, match="--tile 0"):
        tiled(Branching().double().eval(), image(20, 20), 10**9)


def test_moments_of_pieces_are_those_of_the_whole():
    x = torch.randn(2, 6, 9, 10, dtype=torch.float64) + 1e3
    whole, (left, right) = Moments.of(x, 3), (Moments.of(part, 3) for part in (x[..., :3], x[..., 3:]))
    expected = torch.var_mean(x.reshape(2, 3, -1), dim=2, correction=0)
    torch.testing.assert_close((whole.squares / whole.count, whole.mean), expected)
    torch.testing.assert_close((left.merged(right).squares / whole.count, left.merged(right).mean), expected)


def test_normalising_by_own_moments_is_group_normalisation():
    x, norm = torch.randn(2, 6, 5, 4), nn.GroupNorm(3, 6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    made = Moments.of(x, 3).normalised(x, norm.weight, norm.bias, norm.eps)
    torch.testing.assert_close(made, norm(x), rtol=0, atol=1e-5)


def test_an_even_group_has_no_deviation():
    x = torch.full((1, 4, 3, 3), 0.3)
    assert Moments.of(x, 2).normalised(x, None, None, 1e-5).abs().max() < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_what_is_parked_in_a_file_comes_back_as_it_was(dtype, layout):
    values = {i: torch.rand(2, 3, 4, 5).mul(100).to(dtype).contiguous(memory_format=layout) for i in range(3)}
    with Parking([Level(CPU, 0)]) as parking:
        for _ in range(2):  # places are used again
            back = parking.take(parking.put(values))
            assert all(torch.equal(back[i], values[i]) and back[i].stride() == values[i].stride() for i in values)


def test_memory_that_was_given_back_is_used_again():
    level = Level(CPU, 100)
    with Parking([level]) as parking:
        parked = parking.put({"x": torch.zeros(20)})
        assert level.free == 20
        parking.take(parked)
        assert level.free == 100


def test_a_full_disk_is_named(monkeypatch):
    with open("/dev/full", "wb", buffering=0) as full:
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: full)
        with Parking([]) as parking, pytest.raises(DiskError, match="TMPDIR"):
            parking.put({"x": torch.zeros(20)})


def test_a_control_group_s_limit_counts(tmp_path):
    group = tmp_path / "a" / "b"
    group.mkdir(parents=True)
    (tmp_path / "own").write_text("0::/a/b\n")
    (group / "memory.max").write_text("max\n")
    (tmp_path / "a" / "memory.max").write_text("3000\n")
    (tmp_path / "a" / "memory.current").write_text("2500\n")
    (tmp_path / "a" / "memory.stat").write_text("anon 1700\ninactive_file 800\n")
    assert memory.free_bytes(tmp_path, tmp_path / "own") == 3000 - 1700
    assert memory.total_bytes(tmp_path, tmp_path / "own") == 3000


def test_without_control_groups_the_machine_s_memory_counts(tmp_path):
    assert memory.free_bytes(tmp_path, tmp_path / "none") > 10**6
