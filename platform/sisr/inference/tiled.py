"""A generator applied to an image of any size, in tiles where the image is too large for one piece.

Each tile is computed with a halo: as much context as an output pixel depends on. Group normalisation depends on the
whole image besides; see `sisr.inference.global_norm`. The tiled result is that of the
whole image, up to the rounding of sums.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import psutil
import torch
from torch import Tensor

from sisr.data import bicubic
from sisr.errors import DataError
from sisr.inference.global_norm import GlobalGroupNorm, LayerReachedError
from sisr.inference.probe import footprint
from sisr.nets.generator import round_up
from sisr.recipe import Generator, Tiling

MEMORY_BYTES = (2**30, 2**32)  # that one forward pass may take, by an estimate: at least, at most
TILE = (32, 512)  # px, where it is chosen by memory: at least, at most

# Row and column indices -> the lr pixels (n, 3, rows, columns) there, in the generator's type and on its device.
Reader = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class TileRange:
    """One tile's range along one axis, in lr px: the core that it is for, inside the outer range that it reads."""

    start: int
    stop: int
    outer_start: int
    outer_stop: int

    @property
    def outer_size(self) -> int:
        """Pixels read."""
        return self.outer_stop - self.outer_start

    def core_of(self, size: int) -> slice:
        """Return where the core lies in something made from the outer range that has `size` px along this axis.

        Raises:
            ValueError: The core does not fall on whole pixels.
        """
        factor = Fraction(size, self.outer_size)
        start, stop = (factor * (edge - self.outer_start) for edge in (self.start, self.stop))
        if start.denominator != 1 or stop.denominator != 1:
            raise ValueError(
                f"{size} px made from {self.outer_size}: the generator's scale or size_multiple is not what it says"
            )
        return slice(int(start), int(stop))


@dataclass(frozen=True)
class Tile:
    """A rectangle of the image."""

    rows: TileRange
    columns: TileRange

    def core_of(self, x: Tensor) -> Tensor:
        """Return the core's part of (n, c, h, w) features that were made from the tile's outer rectangle."""
        return x[..., self.rows.core_of(x.shape[-2]), self.columns.core_of(x.shape[-1])]


class Bicubic(Generator):
    """Bicubic upscaling as a generator, for comparison."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.tiling = Tiling(scale, halo=3)

    def forward(self, lr: Tensor) -> Tensor:
        """Return sr (n, 3, scale * h, scale * w), not clamped."""
        return bicubic.upscale(lr, self.tiling.scale)


@torch.inference_mode()
def upscale(generator: Generator, lr: Tensor, *, tile: int | None = None, halo: int | None = None) -> Tensor:
    """Return sr (n, 3, scale * h, scale * w), not clamped.

    Args:
        generator: In evaluation mode.
        lr: (n, 3, h, w) in [0, 1], in the generator's type and on its device; any size: sides that the generator does
            not accept are padded by mirroring, and sr is cut.
        tile: lr px, side of a tile; 0: the whole image in one piece; None: as memory allows.
        halo: lr px of context around a tile; None: the generator's own, which makes the result exact.

    Raises:
        DataError: The generator can't be tiled and the image is too large for one piece.
        ValueError: The output is not `scale` times as large as the input.
    """
    height, width = lr.shape[2:]
    image = TiledImage(generator, height, width, lambda rows, columns: lr[:, :, rows[:, None], columns], tile, halo)
    return torch.cat([torch.cat(list(pieces), dim=3) for pieces in image.rows()], dim=2)


class TiledImage:
    """One image, of height x width lr px, on its way through a generator.

    `read` is called for each tile, as often as there are passes; the other arguments are those of `upscale`.
    """

    def __init__(
        self,
        generator: Generator,
        height: int,
        width: int,
        read: Reader,
        tile: int | None = None,
        halo: int | None = None,
    ) -> None:
        self._generator, self._read, self._height, self._width = generator, read, height, width
        tiling = generator.tiling
        self._scale = tiling.scale
        halo = tiling.halo if tiling.halo is None or halo is None else halo
        sides = tiling.padded(height), tiling.padded(width)
        side = _tile_side(generator, sides, halo) if tile is None else tile or max(sides)
        if halo is None and side < max(sides):
            raise DataError("this generator depends on all of the image at once and can't work in tiles")
        self._rows, self._columns = (_tile_ranges(size, side, halo or 0, tiling) for size in (height, width))
        whole = len(self._rows) == len(self._columns) == 1
        self._num_norms = 0 if whole else footprint(generator).num_group_norms

    @property
    def memory_bytes(self) -> float:
        """What the largest tile's forward pass takes, by an estimate."""
        largest = max(s.outer_size for s in self._rows) * max(s.outer_size for s in self._columns)
        return largest * footprint(self._generator).bytes_per_px

    @property
    def num_passes(self) -> int:
        """How many times a tile will be computed, wholly or in part."""
        return len(self._rows) * len(self._columns) * (1 + self._num_norms)

    def rows(self, on_pass: Callable[[], None] = lambda: None) -> Iterator[Iterator[Tensor]]:
        """Yield, from the top, each row of tiles: an iterator over sr pieces (n, 3, h, w) from the left.

        Each row must be consumed before the next. `on_pass` is called after each tile of each pass.
        """
        norm = GlobalGroupNorm() if self._num_norms else None
        for _ in range(self._num_norms):
            assert norm is not None
            for tile in (Tile(rows, columns) for rows in self._rows for columns in self._columns):
                self._forward(tile, norm)
                on_pass()
            norm.end_layer()
        for rows in self._rows:
            yield (self._piece(Tile(rows, columns), norm, on_pass) for columns in self._columns)

    @torch.inference_mode()
    def _piece(self, tile: Tile, norm: GlobalGroupNorm | None, on_pass: Callable[[], None]) -> Tensor:
        sr = self._forward(tile, norm)
        assert sr is not None
        outer = (tile.rows.outer_size, tile.columns.outer_size)
        if tuple(sr.shape[2:]) != tuple(self._scale * side for side in outer):
            raise ValueError(f"generator of scale {self._scale} made {tuple(sr.shape[2:])} px from {outer}")
        on_pass()
        height = self._scale * (min(tile.rows.stop, self._height) - tile.rows.start)
        width = self._scale * (min(tile.columns.stop, self._width) - tile.columns.start)
        return tile.core_of(sr)[..., :height, :width]

    @torch.inference_mode()
    def _forward(self, tile: Tile, norm: GlobalGroupNorm | None) -> Tensor | None:
        """Return sr of a tile's outer rectangle, or None where only statistics were collected."""
        rows = _mirrored(tile.rows.outer_start, tile.rows.outer_stop, self._height)
        columns = _mirrored(tile.columns.outer_start, tile.columns.outer_stop, self._width)
        lr = self._read(rows, columns)
        if norm is None:
            return self._generator(lr)
        norm.begin(tile.core_of)
        try:
            with norm:
                return self._generator(lr)
        except LayerReachedError:
            return None


def memory_budget(generator: Generator) -> float:
    """Return how many bytes a forward pass may take: a share of what is free on the generator's device."""
    device = next(generator.parameters(), torch.empty(0)).device
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / 2
    # In a container the figure is the whole machine's, hence the upper limit.
    least, most = MEMORY_BYTES
    return min(max(psutil.virtual_memory().available / 4, least), most)


def _tile_side(generator: Generator, sides: tuple[int, int], halo: int | None) -> int:
    """Return a tile's side in lr px such that its forward pass fits into memory, but no less than makes sense."""
    least, most = TILE
    if max(sides) <= least:
        return max(sides)
    budget = memory_budget(generator)
    fitting = budget / footprint(generator).bytes_per_px
    if math.prod(sides) <= fitting:
        return max(sides)
    if halo is None:
        raise DataError(
            f"this generator depends on all of the image at once: {sides[1]}x{sides[0]} px don't fit into "
            f"{budget / 2**30:.1f} GiB; shrink the image to {fitting / 1e6:.1f} megapixels, or insist with --tile 0"
        )
    # With a tile smaller than its halo most of the work would be thrown away.
    return max(min(int(math.sqrt(fitting)) - 2 * halo, most), halo, least)


def _tile_ranges(size: int, tile: int, halo: int, tiling: Tiling) -> list[TileRange]:
    """Return the tiles along one axis of an image of `size` px, padded at its end where the generator needs it.

    Every edge falls on a multiple of `size_multiple`, so that strided layers see the grid of the whole image: cores of
    `tile` px and context of `halo` px on both sides, which is less at the image's edges, are rounded up to it. No tile
    reads less than the generator's `minimum`.
    """
    end, multiple = tiling.padded(size), tiling.size_multiple
    tile, halo, minimum = round_up(tile, multiple), round_up(halo, multiple), tiling.padded(1)
    found = []
    for start in range(0, size, tile):
        outer_stop = min(max(start + tile + halo, minimum), end)
        outer_start = max(min(start - halo, outer_stop - minimum), 0)
        found.append(TileRange(start, min(start + tile, end), outer_start, outer_stop))
    return found


def _mirrored(start: int, stop: int, size: int) -> Tensor:
    """Return the indices start .. stop - 1, where those beyond `size` come back from the edge."""
    index = torch.arange(start, stop) % (2 * size)
    return torch.minimum(index, 2 * size - 1 - index)
