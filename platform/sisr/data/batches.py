"""The batch of a step: a pure function of (seed, step), whatever the number of workers and whatever came before.

Images are taken in epochs, each a permutation of all images. Window corners and flips are drawn by `sisr.data.draws`,
one counter per (step, example). Everything up to here is uint8 and a copy of memory; what needs arithmetic is left to
`to_hr`, on the training device.
"""

import queue
import threading
import time
from collections.abc import Sequence
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


class Batches:
    """Windows cut from images, by step.

    Args:
        images: At least one; each must hold the crop's window (`Store.at_least` leaves the smaller ones out).
        crop: What to cut.
        batch_size: Examples of a whole step, over all workers.
        seed: Of the run.

    Raises:
        DataError: There is no image.
    """

    def __init__(self, images: Images, crop: Crop, batch_size: int, seed: int) -> None:
        if not len(images):
            raise DataError("there are no images to train on")
        self.images, self.crop, self.batch_size, self.seed = images, crop, batch_size, seed
        # Two epochs: the batch that ends one begins the next.
        self._order = lru_cache(maxsize=2)(lambda epoch: generator(seed, "order", epoch, 0).permutation(len(images)))

    def take(self, step: int, first: int, count: int) -> NDArray[np.uint8]:
        """Return examples first .. first + count - 1 of the global batch of `step`.

        Returns:
            Pixels (count, window, window, 3), flipped and turned as drawn.

        Raises:
            DataError: A window can't be cut; the message names the file.
        """
        side = self.crop.window
        out = np.empty((count, side, side, 3), dtype=np.uint8)
        places = out.view(_PIXEL)[..., 0]
        for i in range(count):
            index = self.index(step, first + i)
            try:
                image = self.images[index].view(_PIXEL)[..., 0]
                places[i] = _cut(image, self.crop, generator(self.seed, "crop", step, first + i).random(5))
            except (OSError, ValueError) as error:
                raise DataError(f"{self.images.names[index]}: can't cut a training example: {error}") from error
        return out

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
        self._ready: queue.SimpleQueue[Tensor | Exception] = queue.SimpleQueue()
        self._free = threading.Semaphore(depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True)
        if depth:
            self._thread.start()

    def next(self) -> Tensor:
        """Return the next step's pixels, uint8 (n, window, window, 3) on the device.

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
        return item.to(self._device, non_blocking=True)

    def close(self) -> None:
        """End the thread. Further calls do nothing."""
        self._closed.set()
        self._free.release()
        if self._depth:
            self._thread.join()

    def _cut(self) -> Tensor:
        pixels = torch.from_numpy(self._batches.take(self._step, self._first, self._count))
        self._step += 1
        return pixels.pin_memory() if self._device.type == "cuda" else pixels

    def _work(self) -> None:
        try:
            while True:
                self._free.acquire()
                if self._closed.is_set():
                    return
                self._ready.put(self._cut())
        except Exception as error:  # raised by `next`, in the thread that trains
            self._ready.put(error)


def _cut(image: NDArray[Any], crop: Crop, draw: NDArray[np.float64]) -> NDArray[Any]:
    """Return the window of an image (h, w) that five numbers in [0, 1) choose.

    They are, in order: column, row, flip, upside down, transpose.
    """
    left, top, width, height = crop.box or (0, 0, image.shape[1], image.shape[0])
    side = crop.window
    if side > min(width, height) or left + width > image.shape[1] or top + height > image.shape[0]:
        found = f"{image.shape[1]}x{image.shape[0]} pixels don't hold"
        raise ValueError(f"{found} a window of {side}x{side} in the box {width}x{height} at ({left}, {top})")
    x = left + int(draw[0] * (width - side + 1))
    y = top + int(draw[1] * (height - side + 1))
    window = image[y : y + side, x : x + side]
    if crop.flip and draw[2] < 0.5:
        window = window[:, ::-1]
    if crop.turn and draw[3] < 0.5:
        window = window[::-1]
    # Last: between two flips it would turn one into the other, and two of the eight orientations would never come.
    if crop.turn and draw[4] < 0.5:
        window = window.T
    return window
