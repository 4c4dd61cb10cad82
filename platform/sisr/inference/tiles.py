"""Where an image is cut into tiles."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from torch import Tensor

from sisr.nets.generator import Tiling, round_up


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


def tile_ranges(size: int, tile: int, halo: int, tiling: Tiling) -> list[TileRange]:
    """Return the tiles along one axis of an image, which is padded at its end where the generator needs it.

    Args:
        size: px of the image.
        tile: px, side of a core; rounded up to a multiple of the generator's.
        halo: px of context on both sides; rounded up likewise; less at the image's edges.
        tiling: Every edge falls on a multiple of its `size_multiple`, so that strided layers see the grid of the whole
            image; no tile reads less than its `minimum`.
    """
    end, multiple = tiling.padded(size), tiling.size_multiple
    tile, halo, minimum = round_up(tile, multiple), round_up(halo, multiple), tiling.padded(1)
    found = []
    for start in range(0, size, tile):
        outer_stop = min(max(start + tile + halo, minimum), end)
        outer_start = max(min(start - halo, outer_stop - minimum), 0)
        found.append(TileRange(start, min(start + tile, end), outer_start, outer_stop))
    return found


def rows_of_tiles(rows: list[TileRange], columns: list[TileRange]) -> Iterator[list[Tile]]:
    """Yield the tiles of each row, from the top."""
    return ([Tile(row, column) for column in columns] for row in rows)
