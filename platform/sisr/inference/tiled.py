"""A generator applied to an image of any size, in tiles where the image is too large for one piece.

Each tile is computed with a halo: as much context as an output pixel depends on. Group normalisation depends on the
whole image besides; see `sisr.inference.global_norm`. The tiled result is that of the whole image, up to the rounding
of sums; but where the network's reach is not known and was measured, or the user's halo is smaller, it is close to it.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from sisr.data import bicubic
from sisr.errors import DataError
from sisr.inference.global_norm import StagedTiles
from sisr.inference.halo import deviation, measured_halo, sample_side, window_of
from sisr.inference.memory import free_bytes
from sisr.inference.parking import Level
from sisr.inference.probe import footprint
from sisr.inference.tiles import Tile, tile_ranges
from sisr.recipe import Generator, Tiling

USABLE = 0.75  # of what is free: footprints are estimates
OF_A_TILE = 0.25  # of that, where features of all tiles are kept between layers besides
TILE = (32, 512)  # px, where it is chosen: at least, at most
KEPT_BYTES = 2**25  # of one tensor: glibc returns larger ones to the system at once, and gets them back page by page
WORTH = 16  # times as large as its halo is a tile whose context costs little
MANY = 4  # tiles of a quick size from which on an image is computed in tiles though it fits into memory
MOST_DEVIATION = 8.0  # grey levels between tiles and the whole image, up to which a measured halo is used

# Row and column indices -> the lr pixels (n, 3, rows, columns) there, in the generator's type and on its device.
Reader = Callable[[Tensor, Tensor], Tensor]


class Bicubic(Generator):
    """Bicubic upscaling as a generator, for comparison."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.tiling = Tiling(scale, halo=3)

    def forward(self, lr: Tensor) -> Tensor:
        """Return sr (n, 3, scale * h, scale * w), not clamped."""
        return bicubic.upscale(lr, self.tiling.scale)


@torch.inference_mode()
def upscale(
    generator: Generator,
    lr: Tensor,
    *,
    tile: int | None = None,
    halo: int | None = None,
    memory: float | None = None,
) -> Tensor:
    """Return sr (n, 3, scale * h, scale * w), not clamped.

    Args:
        generator: In evaluation mode.
        lr: (n, 3, h, w) in [0, 1], in the generator's type and on its device; any size: sides that the generator does
            not accept are padded by mirroring, and sr is cut.
        tile: lr px, side of a tile; 0: the whole image in one piece; None: as memory allows.
        halo: lr px of context around a tile; None: the generator's own, which makes the result exact.
        memory: Bytes that may be taken; None: most of what the device has free.

    Raises:
        DataError: The generator can't be tiled and the image is too large for one piece.
        ValueError: The output is not `scale` times as large as the input.
    """
    height, width = lr.shape[2:]

    def read(rows: Tensor, columns: Tensor) -> Tensor:
        return lr[:, :, rows[:, None], columns]

    image = TiledImage(generator, height, width, read, tile, halo, memory)
    return torch.cat([torch.cat(list(pieces), dim=3) for pieces in image.rows()], dim=2)


class TiledImage:
    """One image, of height x width lr px, on its way through a generator.

    `read` is called once for each tile; the other arguments are those of `upscale`.
    """

    def __init__(
        self,
        generator: Generator,
        height: int,
        width: int,
        read: Reader,
        tile: int | None = None,
        halo: int | None = None,
        memory: float | None = None,
    ) -> None:
        self._generator, self._reader, self._height, self._width = generator, read, height, width
        self._tiling = generator.tiling
        self._memory = memory_budget(generator) if memory is None else memory
        self.note = ""  # why the result is not exactly that of the whole image; empty where it is
        sides = self._tiling.padded(height), self._tiling.padded(width)
        context = 0
        if tile == 0 or max(sides) <= (tile or TILE[0]) or (tile is None and self._is_best_whole(math.prod(sides))):
            side = max(sides)
        else:
            context = self._context(halo)
            side = tile or self._chosen_side(context)
        window = 1 if self._tiling.halo is not None else window_of(generator)
        rows, columns = (tile_ranges(size, side, context, self._tiling, window) for size in (height, width))
        self._tiles = [[Tile(row, column) for column in columns] for row in rows]
        is_whole = len(rows) == len(columns) == 1
        self._num_norms = 0 if is_whole else footprint(generator).num_group_norms

    @property
    def _fitting(self) -> float:
        """How many lr px fit into memory in one piece, by an estimate."""
        return self._memory / footprint(self._generator).bytes_per_px

    @property
    def _quick_px(self) -> float:
        """How many lr px a tile may have whose tensors the allocator keeps; a tensor is a quarter of the footprint."""
        on_cpu = _device(self._generator).type == "cpu"
        return 4 * KEPT_BYTES / footprint(self._generator).bytes_per_px if on_cpu else math.inf

    def _is_best_whole(self, num_px: int) -> bool:
        halo = self._tiling.halo
        slower = halo is not None and num_px > MANY * self._quick_px >= MANY * (WORTH * halo) ** 2
        return num_px <= self._fitting and not slower

    def _chosen_side(self, halo: int) -> int:
        """Return a tile's side in lr px that fits into memory and is quick, but no less than makes sense."""
        least, most = TILE
        fitting = self._fitting * (OF_A_TILE if footprint(self._generator).num_group_norms else 1)
        quick = max(math.sqrt(min(self._quick_px, most**2)) - 2 * halo, WORTH * halo)
        # With a tile smaller than its halo most of the work would be thrown away.
        return max(int(min(math.sqrt(fitting) - 2 * halo, quick, most)), halo, least)

    @property
    def memory_bytes(self) -> float:
        """What the largest tile's forward pass takes, by an estimate."""
        return max(self._areas) * footprint(self._generator).bytes_per_px

    @property
    def num_passes(self) -> int:
        """How many times a tile will be computed, wholly or in part."""
        return len(self._tiles) * len(self._tiles[0]) * (1 + self._num_norms)

    @property
    def num_px(self) -> int:
        """Pixels of lr that will be computed, those of the tiles' context counted as often as they are."""
        return sum(self._areas)

    @property
    def _areas(self) -> list[int]:
        return [math.prod(tile.outer) for row in self._tiles for tile in row]

    def rows(self, on_pass: Callable[[], None] = lambda: None) -> Iterator[Iterator[Tensor]]:
        """Yield, from the top, each row of tiles: an iterator over sr pieces (n, 3, h, w) from the left.

        Each row must be consumed before the next. `on_pass` is called after each tile of each pass.
        """
        if not self._num_norms:
            for row in self._tiles:
                yield (self._piece(tile, lambda tile: self._generator(self._read(tile)), on_pass) for tile in row)
            return
        tiles = [tile for row in self._tiles for tile in row]
        with StagedTiles(self._generator, tiles, self._read, self._levels()) as staged:
            staged.collect(on_pass)
            for row in self._tiles:
                yield (self._piece(tile, staged.sr, on_pass) for tile in row)

    @torch.inference_mode()
    def _piece(self, tile: Tile, compute: Callable[[Tile], Tensor], on_pass: Callable[[], None]) -> Tensor:
        sr, scale = compute(tile), self._tiling.scale
        if tuple(sr.shape[2:]) != tuple(scale * side for side in tile.outer):
            raise ValueError(f"generator of scale {scale} made {tuple(sr.shape[2:])} px from {tile.outer}")
        on_pass()
        height = scale * (min(tile.rows.stop, self._height) - tile.rows.start)
        width = scale * (min(tile.columns.stop, self._width) - tile.columns.start)
        return tile.core_of(sr)[..., :height, :width]

    def _read(self, tile: Tile) -> Tensor:
        rows = bicubic.mirrored_index(tile.rows.outer_start, tile.rows.outer_stop, self._height)
        return self._reader(
            rows, bicubic.mirrored_index(tile.columns.outer_start, tile.columns.outer_stop, self._width)
        )

    def _levels(self) -> list[Level]:
        """Return where features wait between layers: on the device, then in the machine's memory."""
        device, waiting = _device(self._generator), self._memory - self.memory_bytes
        levels = [Level(device, waiting)]
        return levels if device.type == "cpu" else [*levels, Level(torch.device("cpu"), USABLE * free_bytes())]

    def _context(self, halo: int | None) -> int:
        """Return the tiles' halo, and set `note` where it is less than the generator looks, or may look.

        Raises:
            DataError: The generator can't work in tiles.
        """
        own = self._tiling.halo
        if own is not None:
            if halo is not None and halo < own:
                self.note = f"approximate: the tiles have {halo} px of context, and the network looks {own} px far"
            return own if halo is None else halo
        try:
            chosen = measured_halo(self._generator) if halo is None else halo
            found = deviation(self._generator, self._middle(sample_side(self._generator, chosen)), chosen)
            if halo is None and found > MOST_DEVIATION:
                raise DataError(
                    f"this generator depends on the whole image: a sample in tiles with {chosen} px of context differs "
                    f"by up to {found:.0f} grey levels, so that it can't work in tiles unless --halo insists"
                )
        except DataError as error:
            there = f"{self._memory / 2**30:.1f} GiB are enough for {self._fitting / 1e6:.1f} megapixels in one piece"
            raise DataError(f"{error}. {there}, this image has {self._width * self._height / 1e6:.1f}") from error
        self.note = f"approximate: tiles with {chosen} px of context; largest difference measured on a sample: "
        self.note += f"{found:.1f} grey levels"
        return chosen

    def _middle(self, side: int) -> Tensor:
        """Return the image's middle, at most `side` px a side, on the grid of the generator's windows."""
        multiple, places = math.lcm(self._tiling.size_multiple, window_of(self._generator)), []
        for size in (self._height, self._width):
            taken = min(side, self._tiling.padded(size))
            start = max(0, size - taken) // 2 // multiple * multiple
            places.append(bicubic.mirrored_index(start, start + taken, size))
        return self._reader(*places)


def memory_budget(generator: Generator) -> float:
    """Return how many bytes an image may take: most of what is free on the generator's device."""
    device = _device(generator)
    return USABLE * (torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_bytes())


def _device(generator: Generator) -> torch.device:
    return next(generator.parameters(), torch.empty(0)).device
