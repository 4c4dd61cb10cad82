"""How an image is cut into tiles: each a core, and around it as much context as its output pixels depend on."""

import math
from dataclasses import dataclass
from fractions import Fraction

from torch import Tensor

from sisr.nets.generator import round_up
from sisr.recipe import Tiling


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

    @property
    def outer(self) -> tuple[int, int]:
        """Height and width of what is read, in lr px."""
        return self.rows.outer_size, self.columns.outer_size

    def core_of(self, x: Tensor) -> Tensor:
        """Return the core's part of (n, c, h, w) features that were made from the tile's outer rectangle."""
        return x[..., self.rows.core_of(x.shape[-2]), self.columns.core_of(x.shape[-1])]


def tile_ranges(size: int, tile: int, halo: int, tiling: Tiling, window: int = 1) -> list[TileRange]:
    """Return the tiles along one axis of an image of `size` px, padded at its end where the generator needs it.

    Edges fall on multiples of `size_multiple` and, but for the image's end, of `window`, so that strided layers and
    windows see the grid of the whole image: cores of at most `tile` px, about equally large, and context of at least
    `halo` px on both sides that lie in the image are rounded up to it. No tile reads less than the generator's
    `minimum`; without windows all read equally much, which lets one plan of the work serve for all.
    """
    end, grid = tiling.padded(size), math.lcm(tiling.size_multiple, window)
    tile, halo, minimum = round_up(tile, grid), round_up(halo, grid), tiling.padded(1)
    tile = round_up(-(-end // -(-end // tile)), grid)
    cores = [(start, min(start + tile, end)) for start in range(0, size, tile)]
    least = minimum
    if grid == tiling.size_multiple:
        least = max(minimum, *(min(stop + halo, end) - max(start - halo, 0) for start, stop in cores))
    found = []
    for start, stop in cores:
        outer_start = min(max(start - halo, 0), max(0, end - least) // grid * grid)
        outer_stop = min(max(stop + halo, outer_start + least), end)
        found.append(TileRange(start, stop, outer_start, outer_stop))
    return found
