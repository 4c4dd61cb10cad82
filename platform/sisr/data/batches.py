"""The batch of a step: a pure function of (seed, step), whatever the number of workers and whatever came before.

Images are taken in epochs, each a permutation of all images. Window corners and flips are drawn by `sisr.data.draws`,
one counter per (step, example). Everything up to here is uint8 and a copy of memory; what needs arithmetic is left to
`to_hr`, on the training device.
"""

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sisr.data.augment import Crop
from sisr.data.draws import generator
from sisr.errors import DataError

# Three bytes copied as one: flipped and transposed copies take half the time.
_PIXEL = np.dtype("V3")


@dataclass(frozen=True)
class Windows:
    """A batch, or part of one, as it is cut."""

    hr: Tensor  # uint8 (n, window, window, 3)
    lr: Tensor | None = None  # uint8 (n, window / scale, window / scale, 3), where lr is given

    def split(self, counts: Sequence[int]) -> "list[Windows]":
        """Return so many parts of so many examples."""
        lr = [None] * len(counts) if self.lr is None else self.lr.split(list(counts))
        return [Windows(*part) for part in zip(self.hr.split(list(counts)), lr, strict=True)]

    def to(self, device: torch.device) -> "Windows":
        """Return the batch on a device; copies from pinned memory don't block."""
        lr = None if self.lr is None else self.lr.to(device, non_blocking=True)
        return Windows(self.hr.to(device, non_blocking=True), lr)

    def pinned(self) -> "Windows":
        """Return the batch in memory that is copied to a GPU without waiting."""
        return Windows(self.hr.pin_memory(), None if self.lr is None else self.lr.pin_memory())


class Images(Protocol):
    """What batches are cut from; `sisr.data.store.Store` is one."""

    @property
    def names(self) -> Sequence[str]:
        """Return the images' file names, for messages."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """Return pixels (h, w, 3)."""
        ...

    def lr(self, index: int) -> NDArray[np.uint8]:
        """Return pixels (h / scale, w / scale, 3), rounded down, where they are given."""
        ...


class Batches:
    """Windows cut from images, by step.

    Args:
        images: At least one; each must hold the crop's window (`Store.at_least` leaves the smaller ones out).
        crop: What to cut.
        batch_size: Examples of a whole step, over all workers.
        seed: Of the run.
        scale: hr side / lr side of pairs: the same window is cut from both, on whole pixels of lr. None: lr is not
            given.

    Raises:
        DataError: There is no image.
    """

    def __init__(self, images: Images, crop: Crop, batch_size: int, seed: int, scale: int | None = None) -> None:
        if not len(images):
            raise DataError("there are no images to train on")
        self.images, self.crop, self.batch_size, self.seed, self.scale = images, crop, batch_size, seed, scale
        # Two epochs: the batch that ends one begins the next.
        self._order = lru_cache(maxsize=2)(lambda epoch: generator(seed, "order", epoch, 0).permutation(len(images)))

    def take(self, step: int, first: int, count: int) -> Windows:
        """Return examples first .. first + count - 1 of the global batch of `step`, flipped and turned as drawn.

        Raises:
            DataError: A window can't be cut; the message names the file.
        """
        side, grid = self.crop.window, self.scale or 1
        hr = np.empty((count, side, side, 3), dtype=np.uint8)
        lr = np.empty((count, side // grid, side // grid, 3), dtype=np.uint8) if self.scale else None
        for i in range(count):
            index = self.index(step, first + i)
            draw = generator(self.seed, "crop", step, first + i).random(5)
            try:
                image = self.images[index]
                x, y = _corner(image.shape, self.crop, draw, grid)
                _cut(image, x, y, self.crop, draw, hr[i])
                if lr is not None:
                    _cut(self.images.lr(index), x // grid, y // grid, self.crop, draw, lr[i])
            except (OSError, ValueError) as error:
                raise DataError(f"{self.images.names[index]}: can't cut a training example: {error}") from error
        return Windows(torch.from_numpy(hr), None if lr is None else torch.from_numpy(lr))

    def index(self, step: int, example: int) -> int:
        """Return which image an example of the global batch of `step` is cut from."""
        epoch, position = divmod(step * self.batch_size + example, len(self.images))
        return int(self._order(epoch)[position])


class Prefetcher:
    """Cuts one worker's part of the coming batches in a background thread, at most `depth` ahead.

    The thread sleeps while the batches ahead are ready: it costs what cutting costs and nothing more.

    Args:
        batches: Where from.
        first: Position of this worker's first example in every batch.
        count: Examples of this worker; None: all from the first on.
        start_step: The step that the first `next` belongs to.
        device: Where `next` puts the pixels; copies to a GPU come from pinned memory and don't block.
        depth: Batches held ready; 0: no thread, each batch is cut when it is asked for.
    """

    def __init__(
        self,
        batches: Batches,
        first: int = 0,
        count: int | None = None,
        start_step: int = 0,
        device: torch.device | str = "cpu",
        *,
        depth: int = 2,
    ) -> None:
        self.waited_s = 0.0  # how long `next` has waited, altogether
        self._batches, self._device = batches, torch.device(device)
        self._first, self._count = first, batches.batch_size - first if count is None else count
        self._depth, self._step = depth, start_step
        self._ready: queue.SimpleQueue[Windows | Exception] = queue.SimpleQueue()
        self._free = threading.Semaphore(depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True)
        if depth:
            self._thread.start()

    def next(self) -> Windows:
        """Return the next step's windows, on the device.

        Raises:
            DataError: The batch could not be made; the message names the file.
        """
        start = time.perf_counter()
        item = self._ready.get() if self._depth else self._cut()
        self.waited_s += time.perf_counter() - start
        if isinstance(item, Exception):
            self._ready.put(item)  # the thread has ended: the next call raises the same error
            raise item
        self._free.release()
        return item.to(self._device)

    def close(self) -> None:
        """End the thread. Further calls do nothing."""
        self._closed.set()
        self._free.release()
        if self._depth:
            self._thread.join()

    def _cut(self) -> Windows:
        windows = self._batches.take(self._step, self._first, self._count)
        self._step += 1
        return windows.pinned() if self._device.type == "cuda" else windows

    def _work(self) -> None:
        try:
            while True:
                self._free.acquire()
                if self._closed.is_set():
                    return
                self._ready.put(self._cut())
        except Exception as error:  # raised by `next`, in the thread that trains
            self._ready.put(error)


def _corner(shape: Sequence[int], crop: Crop, draw: NDArray[np.float64], grid: int) -> tuple[int, int]:
    """Return column and row of the window of an image (h, w, ...) that two numbers in [0, 1) choose.

    Both are multiples of `grid`.
    """
    left, top, width, height = crop.box or (0, 0, shape[1], shape[0])
    side = crop.window
    first_x, first_y = -(-left // grid), -(-top // grid)
    columns, rows = (left + width - side) // grid - first_x + 1, (top + height - side) // grid - first_y + 1
    if min(columns, rows) < 1 or left + width > shape[1] or top + height > shape[0]:
        found = f"{shape[1]}x{shape[0]} pixels don't hold"
        on = f" on whole lr pixels, x{grid}," if grid > 1 else ""
        raise ValueError(f"{found} a window of {side}x{side}{on} in the box {width}x{height} at ({left}, {top})")
    return (first_x + int(draw[0] * columns)) * grid, (first_y + int(draw[1] * rows)) * grid


def _cut(image: NDArray[np.uint8], x: int, y: int, crop: Crop, draw: NDArray[np.float64], out: NDArray[Any]) -> None:
    """Copy the window at (x, y) of an image into `out` (side, side, 3), as three numbers in [0, 1) turn it.

    They are the last of five: flip, upside down, transpose.
    """
    side = len(out)
    window = image.view(_PIXEL)[y : y + side, x : x + side, 0]
    if crop.flip and draw[2] < 0.5:
        window = window[:, ::-1]
    if crop.turn and draw[3] < 0.5:
        window = window[::-1]
    # Last: between two flips it would turn one into the other, and two of the eight orientations would never come.
    if crop.turn and draw[4] < 0.5:
        window = window.T
    out.view(_PIXEL)[..., 0] = window
