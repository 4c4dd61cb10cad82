"""Random numbers that are a pure function of (seed, step, example, name).

A batch's numbers don't depend on how many workers divide it, on what was drawn before, or on global random state.
That is what makes resume exact and lets 1, 2 or 8 workers train on the same batches.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


def generator(seed: int, name: str, step: int, example: int) -> np.random.Generator:
    """Return the counter-based generator of one example's numbers under one name."""
    key = np.frombuffer(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=16).digest(), dtype=np.uint64)
    # The lowest counter word is left to the stream itself: 2**64 blocks for each (example, step).
    return np.random.Generator(np.random.Philox(key=key, counter=[0, example, step, 0]))


@dataclass(frozen=True)
class Draws:
    """One worker's part of a batch's random numbers.

    Each method takes a name, so that two uses never get the same numbers, and the shape of one example's numbers. It
    returns a float32 tensor (count, *shape) on `device`; row i belongs to example `first + i` of the global batch.
    """

    seed: int
    step: int
    first: int  # position of this worker's first example in the global batch
    count: int  # examples of this worker
    device: torch.device | str = "cpu"

    def uniform(self, name: str, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Return numbers uniform in [low, high)."""
        return self._each(name, lambda rng: rng.random(shape, dtype=np.float32)).mul_(high - low).add_(low)

    def normal(self, name: str, *shape: int) -> Tensor:
        """Return standard normal numbers."""
        return self._each(name, lambda rng: rng.standard_normal(shape, dtype=np.float32))

    def _each(self, name: str, draw: Callable[[np.random.Generator], Any]) -> Tensor:
        rows: Sequence[Any] = [draw(generator(self.seed, name, self.step, self.first + i)) for i in range(self.count)]
        return torch.from_numpy(np.stack(rows).astype(np.float32, copy=False)).to(self.device)
