"""How far a network looks whose reach can't be told from its layers: measured, and tried on the picture itself."""

import math
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sisr.errors import DataError
from sisr.inference.probe import grey_lr
from sisr.inference.tiles import TileRange
from sisr.nets.generator import round_up
from sisr.recipe import Generator

GREY_LEVEL = 1 / 255
SIDES = (64, 128, 256)  # px, of the lr on which a pixel is changed: the first that shows how far this is seen
WINDOWS = ("window_size", "split_size")  # how networks call the sides of their windows
CORE = 64  # px, of the piece that is computed with less and with more context

_measured: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


def measured_halo(generator: Generator) -> int:
    """Return how many lr px away a changed pixel moves the output by more than half a grey level.

    What many pixels do together may reach further: see `deviation`. Measured once per generator.

    Raises:
        DataError: It attends to the whole image, or looks further than can be measured.
    """
    if generator not in _measured:
        if _attends_to_all(generator):
            raise DataError(
                "this generator attends to the whole image and can't work in tiles: shrink the image, or insist with "
                "--halo, which gives another result"
            )
        found = next((halo for side in SIDES if (halo := _reach(generator, side)) is not None), None)
        if found is None:
            raise DataError(
                f"this generator looks further than {SIDES[-1] // 2} px and can't work in tiles: shrink the image, or "
                "insist with --halo, which gives another result"
            )
        _measured[generator] = found
    return _measured[generator]


def window_of(network: nn.Module) -> int:
    """Return the side in px of the windows that a network attends within, as its layers say; 1: it has none."""
    found = {1}
    for module in network.modules():
        for name in WINDOWS:
            value = getattr(module, name, None)
            found.update(v for v in (value if isinstance(value, list | tuple) else [value]) if type(v) is int and v > 0)
    return math.lcm(*found)


@torch.inference_mode()
def _reach(generator: Generator, side: int) -> int | None:
    """Return how far a changed pixel is seen in the middle of an lr of `side` px; None: to its edge."""
    tiling = generator.tiling
    multiple = math.lcm(tiling.size_multiple, window_of(generator))
    side = round_up(tiling.padded(side), multiple)
    like = grey_lr(generator, side, side)
    lr = torch.rand(like.shape, generator=torch.Generator().manual_seed(0)).to(like)
    middle = side // 2 // multiple * multiple
    before, reach = generator(lr), 0
    # Windows may begin at these multiples, or between them.
    for row, column in {(0, 0), (multiple // 2, multiple // 2), (multiple - 1, 0), (multiple - 1, multiple - 1)}:
        row, column = middle + row, middle + column
        changed = lr.clone()
        changed[..., row, column] = 1 - lr[..., row, column].round()
        moved = (generator(changed) - before).abs().amax(dim=(0, 1)) > GREY_LEVEL / 2
        rows, columns = (each // tiling.scale for each in moved.nonzero(as_tuple=True))
        distances = torch.cat([(rows - row).abs(), (columns - column).abs()])
        reach = max(reach, int(distances.max()) if len(distances) else 0)
    return reach if reach < side - middle - multiple else None


@torch.inference_mode()
def deviation(generator: Generator, lr: Tensor, halo: int) -> float:
    """Return the largest difference, in grey levels, between a piece of a picture with a halo and with twice as much.

    Args:
        generator: In evaluation mode.
        lr: (n, 3, h, w): the picture's middle; `sample_side` px a side are enough.
        halo: lr px of context.
    """
    multiple = math.lcm(generator.tiling.size_multiple, window_of(generator))
    ranges = []
    for side in lr.shape[2:]:
        core = min(round_up(CORE, multiple), side // 2 // multiple * multiple)
        # Not in the middle, where what the whole picture does could cancel out.
        start = 3 * (side - core) // 8 // multiple * multiple
        context = round_up(halo, multiple)
        ranges.append(TileRange(start, start + core, max(0, start - context), min(side, start + core + context)))
    rows, columns = ranges
    least = max(1, generator.tiling.minimum)
    if min(rows.stop - rows.start, columns.stop - columns.start) < 1 or min(r.outer_size for r in ranges) < least:
        return 0.0  # the picture is hardly larger than a tile
    near = generator(lr[..., rows.outer_start : rows.outer_stop, columns.outer_start : columns.outer_stop])
    far = generator(lr)
    scale = generator.tiling.scale
    whole = far[..., scale * rows.start : scale * rows.stop, scale * columns.start : scale * columns.stop]
    piece = near[..., rows.core_of(near.shape[2]), columns.core_of(near.shape[3])]
    return float((whole.clamp(0, 1) - piece.clamp(0, 1)).abs().max()) / GREY_LEVEL


def sample_side(generator: Generator, halo: int) -> int:
    """Return the side in lr px of what `deviation` is to be given."""
    multiple = math.lcm(generator.tiling.size_multiple, window_of(generator))
    return round_up(generator.tiling.padded(round_up(CORE, multiple) + 4 * round_up(halo, multiple)), multiple)


@torch.no_grad()  # not inference_mode, in which attention is not taken apart
def _attends_to_all(generator: Generator) -> bool:
    """Return whether a softmax of the generator is over more values when the image is larger."""
    lengths = []
    for side in SIDES[:2]:
        side = generator.tiling.padded(side)
        with _Attention() as attention:
            generator(grey_lr(generator, side, side))
        lengths.append(attention.length)
    return lengths[1] > lengths[0]


class _Attention(TorchDispatchMode):
    """Remembers over how many values a softmax goes at most."""

    def __init__(self) -> None:
        super().__init__()
        self.length = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("_softmax", "softmax"):
            self.length = max(self.length, args[0].shape[args[1]])
        elif "scaled_dot_product" in name:
            self.length = max(self.length, args[1].shape[-2])
        return func(*args, **(kwargs or {}))
