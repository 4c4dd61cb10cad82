"""Random numbers that are a pure function of (seed, step, example, name).

A batch's numbers don't depend on how many workers divide it, on what was drawn before, or on global random state.
That is what makes resume exact and lets 1, 2 or 8 workers train on the same batches.
"""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sisr.data import philox
from sisr.data.transfer import on_device

FORMAT = 2  # of the numbers; 1, of runs begun with 0.1.0: all are made on the host
LARGE = 2048  # numbers of one example from which on the device makes them: a hundred launches take as long as fewer


def generator(seed: int, name: str, step: int, example: int) -> np.random.Generator:
    """Return the counter-based generator of one example's numbers under one name."""
    key = np.frombuffer(_hash(seed, name, 16), dtype=np.uint64)
    # The lowest counter word is left to the stream itself: 2**64 blocks for each (example, step).
    return np.random.Generator(np.random.Philox(key=key, counter=[0, example, step, 0]))


@dataclass(frozen=True)
class Draws:
    """One worker's part of a batch's random numbers.

    Each method takes a name, so that two uses never get the same numbers, and the shape of one example's numbers. It
    returns a float32 tensor (count, *shape) on `device`; row i belongs to example `first + i` of the global batch.
    Few numbers are made on the host; `LARGE` or more on the device, with which uniform ones don't differ, and normal
    ones in their last bits.
    """

    seed: int
    step: int
    first: int  # position of this worker's first example in the global batch
    count: int  # examples of this worker
    device: torch.device | str = "cpu"
    format: int = FORMAT

    def uniform(self, name: str, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Return numbers uniform in [low, high)."""
        if self._is_large(shape):
            drawn = philox.uniform(*self._place(name), math.prod(shape), self.device).reshape(self.count, *shape)
        else:
            drawn = self._from_host([rng.random(shape, dtype=np.float32) for rng in self._generators(name)])
        return drawn.mul_(high - low).add_(low)

    def normal(self, name: str, *shape: int) -> Tensor:
        """Return standard normal numbers."""
        if self._is_large(shape):
            return philox.normal(*self._place(name), math.prod(shape), self.device).reshape(self.count, *shape)
        return self._from_host([rng.standard_normal(shape, dtype=np.float32) for rng in self._generators(name)])

    def _is_large(self, shape: tuple[int, ...]) -> bool:
        return self.format > 1 and math.prod(shape) >= LARGE

    def _place(self, name: str) -> tuple[philox.Key, int, range]:
        """Return the key of the numbers under a name, the step, and the examples."""
        words = np.frombuffer(_hash(self.seed, name, 8), dtype="<u4")
        return (int(words[0]), int(words[1])), self.step, range(self.first, self.first + self.count)

    def _generators(self, name: str) -> list[np.random.Generator]:
        return [generator(self.seed, name, self.step, self.first + i) for i in range(self.count)]

    def _from_host(self, rows: list[NDArray[np.float32]]) -> Tensor:
        return on_device(torch.from_numpy(np.stack(rows).astype(np.float32, copy=False)), torch.device(self.device))


def _hash(seed: int, name: str, size: int) -> bytes:
    return hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=size).digest()
