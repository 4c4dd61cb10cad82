"""A generator used in another way: in a shorter number format, averaged over turns, or brought to another scale.

Each is a generator itself, so that tiles, estimates and measurements take it as they take any other.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from sisr.data.bicubic import mirrored_index
from sisr.recipe import Generator

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class InFormat(Generator):
    """Computes in `bf16` or `fp16` where that is safe, as torch's autocast sees it; sr is float32."""

    def __init__(self, generator: Generator, number_format: str) -> None:
        super().__init__()
        self.network, self.tiling, self.dtype = generator, generator.tiling, DTYPES[number_format]

    def forward(self, lr: Tensor) -> Tensor:
        """Return sr (n, 3, scale * h, scale * w), float32."""
        with torch.autocast(lr.device.type, dtype=self.dtype):
            sr: Tensor = self.network(lr)
        return sr.float()


class SelfEnsemble(Generator):
    """The mean of what the generator makes of the eight turns and flips of lr, turned back.

    Timofte et al., "Seven ways to improve example-based single image super resolution", 2016, section 3.
    https://arxiv.org/abs/1511.02228
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.network, self.tiling = generator, generator.tiling

    def forward(self, lr: Tensor) -> Tensor:
        """Return sr (n, 3, scale * h, scale * w)."""
        total: Tensor | float = 0.0
        for flipped in (False, True):
            seen = lr.flip(-1) if flipped else lr
            for turns in range(4):
                sr = self.network(seen.rot90(turns, (-2, -1)).contiguous()).rot90(-turns, (-2, -1))
                total = total + (sr.flip(-1) if flipped else sr)
        assert isinstance(total, Tensor)
        return total / 8


class Rescaled(Generator):
    """A generator whose sr, clamped to [0, 1], is brought to another scale by MATLAB's bicubic interpolation."""

    def __init__(self, generator: Generator, scale: int) -> None:
        super().__init__()
        self.network, own = generator, generator.tiling
        # px of lr that the kernel reaches, and one to spare; torch renormalises at the edge of what it is given.
        self._margin = -(-2 // min(scale, own.scale)) + 1
        self.tiling = replace(own, scale=scale, halo=None if own.halo is None else own.halo + self._margin)

    def forward(self, lr: Tensor) -> Tensor:
        """Return sr (n, 3, scale * h, scale * w)."""
        sr = self.network(lr).clamp(0, 1)
        beyond = self._margin * self.network.tiling.scale
        rows, columns = (mirrored_index(-beyond, side + beyond, side, sr.device) for side in sr.shape[-2:])
        wide = sr.index_select(-2, rows).index_select(-1, columns)
        edge = self._margin * self.tiling.scale
        size = [self.tiling.scale * side + 2 * edge for side in lr.shape[-2:]]
        made = functional.interpolate(wide, size=size, mode="bicubic", antialias=True, align_corners=False)
        return made[..., edge:-edge, edge:-edge]
