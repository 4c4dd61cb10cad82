"""The batch of a step: a pure function of (seed, step), whatever the number of workers and whatever came before.

Images are taken in epochs, each a permutation of all images. Window corners and flips are drawn by `sisr.draws`, one
counter per (step, example). Everything up to here is uint8 and a copy of memory; what needs arithmetic is left to
`to_hr`, on the training device.
"""

import queue
import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sisr.data.store import Store
from sisr.draws import Draws, generator
from sisr.errors import ConfigError, DataError
from sisr.recipe import Crop


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
        images: At least one; each must hold the crop's window (`Store.select` leaves the smaller ones out).
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
        self._order = lru_cache(maxsize=2)(self._permutation)

    def take(self, step: int, first: int, count: int) -> NDArray[np.uint8]:
        """Return examples first .. first + count - 1 of the global batch of `step`.

        Returns:
            Pixels (count, window, window, 3), flipped and turned as drawn.

        Raises:
            DataError: A window can't be cut; the message names the file.
        """
        side = self.crop.window
        out = np.empty((count, side, side, 3), dtype=np.uint8)
        for i in range(count):
            index = self.index(step, first + i)
            try:
                out[i] = _cut(self.images[index], self.crop, generator(self.seed, "crop", step, first + i).random(5))
            except (OSError, ValueError) as error:
                raise DataError(f"{self.images.names[index]}: can't cut a training example: {error}") from error
        return out

    def index(self, step: int, example: int) -> int:
        """Return which image an example of the global batch of `step` is cut from."""
        epoch, position = divmod(step * self.batch_size + example, len(self.images))
        return int(self._order(epoch)[position])

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        return generator(self.seed, "order", epoch, 0).permutation(len(self.images))


class Prefetcher:
    """Cuts one worker's share of the coming batches in a background thread, at most `depth` ahead.

    The thread sleeps while the batches ahead are ready: it costs what cutting costs and nothing more.

    Args:
        batches: Where from.
        rank: This worker's number, from 0.
        world: Number of workers; the batch size must be a multiple of it.
        start_step: The step that the first `next` belongs to.
        device: Where `next` puts the pixels; copies to a GPU come from pinned memory and don't block.
        depth: Batches held ready.

    Raises:
        ConfigError: The batch can't be shared equally.
    """

    def __init__(
        self,
        batches: Batches,
        rank: int = 0,
        world: int = 1,
        start_step: int = 0,
        device: torch.device | str = "cpu",
        *,
        depth: int = 2,
    ) -> None:
        if batches.batch_size % world:
            raise ConfigError(f"batch_size {batches.batch_size} can't be shared equally by {world} workers")
        self.waited_s = 0.0  # how long `next` has waited, altogether
        self._batches, self._device = batches, torch.device(device)
        self._count = batches.batch_size // world
        self._first = rank * self._count
        self._ready: queue.SimpleQueue[Tensor | Exception] = queue.SimpleQueue()
        self._free = threading.Semaphore(depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(start_step,), name="prefetch", daemon=True)
        self._thread.start()

    def next(self) -> Tensor:
        """Return the next step's pixels, uint8 (n, window, window, 3) on the device.

        Raises:
            DataError: The batch could not be made; the message names the file.
        """
        start = time.perf_counter()
        item = self._ready.get()
        self.waited_s += time.perf_counter() - start
        if isinstance(item, Exception):
            self._ready.put(item)  # the thread is gone: say it again to whoever asks again
            raise item
        self._free.release()
        return item.to(self._device, non_blocking=True)

    def close(self) -> None:
        """End the thread. Further calls do nothing."""
        self._closed.set()
        self._free.release()
        self._thread.join()

    def _work(self, step: int) -> None:
        try:
            while True:
                self._free.acquire()
                if self._closed.is_set():
                    return
                pixels = torch.from_numpy(self._batches.take(step, self._first, self._count))
                self._ready.put(pixels.pin_memory() if self._device.type == "cuda" else pixels)
                step += 1
        except Exception as error:  # whatever it is, it belongs to the consumer
            self._ready.put(error)


def to_hr(
    pixels: Tensor,
    crop: Crop,
    draws: Draws,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
) -> Tensor:
    """Return hr (n, 3, side, side) in [0, 1], on the pixels' device.

    Args:
        pixels: uint8 (n, window, window, 3), as `Batches.take` gives them.
        crop: Averaged to `side`, then saturation, brightness, contrast and rotation as it says.
        draws: The random numbers of these examples.
        dtype: Of the result; the arithmetic is float32, or float64 where that is asked for.
        channels_last: The result's memory format.
    """
    working = torch.float64 if dtype == torch.float64 else torch.float32
    hr = pixels.permute(0, 3, 1, 2).to(working).div_(255)
    if crop.window != crop.side:
        hr = functional.avg_pool2d(hr, crop.window // crop.side)
    hr = _colour(hr, crop, draws)
    if crop.rotate_degrees:
        hr = rotate(hr, draws.uniform("rotate", high=crop.rotate_degrees).to(hr))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return hr.to(dtype).contiguous(memory_format=layout)


def saturate(hr: Tensor, factor: Tensor) -> Tensor:
    """Return the images with HSV saturation multiplied by `factor` (n,) and clipped at 1; hue and value stay."""
    value = hr.amax(dim=1, keepdim=True)
    spread = value - hr.amin(dim=1, keepdim=True)
    limit = value / spread.clamp_min(1e-12)
    return value - (value - hr) * torch.minimum(factor.view(-1, 1, 1, 1), limit)


def rotate(hr: Tensor, degrees: Tensor) -> Tensor:
    """Return the images turned anticlockwise by `degrees` (n,), bicubic, clamped; corners are filled by reflection."""
    angle = torch.deg2rad(degrees)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    theta = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)
    grid = functional.affine_grid(theta, list(hr.shape), align_corners=False)
    turned = functional.grid_sample(hr, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return turned.clamp(0, 1)


def _colour(hr: Tensor, crop: Crop, draws: Draws) -> Tensor:
    if not (crop.saturation or crop.brightness or crop.contrast):
        return hr
    if crop.saturation:
        hr = saturate(hr, draws.uniform("saturation", low=1 - crop.saturation, high=1 + crop.saturation).to(hr))
    if crop.brightness:
        hr = hr + draws.uniform("brightness", 1, 1, 1, low=-crop.brightness, high=crop.brightness).to(hr)
    if crop.contrast:
        factor = draws.uniform("contrast", 1, 1, 1, low=1 - crop.contrast, high=1 + crop.contrast).to(hr)
        mean = hr.mean(dim=(2, 3), keepdim=True)
        hr = mean + (hr - mean) * factor
    return hr.clamp(0, 1)


def _cut(image: NDArray[np.uint8], crop: Crop, draw: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the window that five numbers in [0, 1) choose: column, row, flip, transpose, upside down."""
    left, top, width, height = crop.box or (0, 0, image.shape[1], image.shape[0])
    side = crop.window
    if side > min(width, height) or left + width > image.shape[1] or top + height > image.shape[0]:
        raise ValueError(f"{image.shape[1]}x{image.shape[0]} pixels don't hold {need(crop)}")
    x = left + int(draw[0] * (width - side + 1))
    y = top + int(draw[1] * (height - side + 1))
    window = image[y : y + side, x : x + side]
    if crop.flip and draw[2] < 0.5:
        window = window[:, ::-1]
    if crop.turn and draw[3] < 0.5:
        window = window.transpose(1, 0, 2)
    if crop.turn and draw[4] < 0.5:
        window = window[::-1]
    return window


def need(crop: Crop) -> str:
    """Return in words what an image must hold for this crop."""
    side = f"a window of {crop.window}x{crop.window}"
    if crop.box is None:
        return side
    x, y, width, height = crop.box
    return f"{side} in the box {width}x{height} at ({x}, {y})"


def holding(store: Store, crop: Crop) -> Store:
    """Return the store of the images that this crop can be cut from; how many were left out is the difference.

    Raises:
        DataError: There is none; the message names the largest.
    """
    left, top, width, height = crop.box or (0, 0, crop.window, crop.window)
    large = store.at_least(left + width, top + height)
    if len(store) and not len(large):
        _, h, w = max(store.shapes.tolist(), key=lambda shape: shape[1] * shape[2])
        raise DataError(f"none of {len(store)} images holds {need(crop)}; the largest is {w}x{h} pixels")
    return large


def validation_images(store: Store, crop: Crop, scale: int, limit_side: int = 256) -> list[NDArray[np.uint8]]:
    """Return one hr example of each held-out image, without chance: uint8 (h, w, 3), sides multiples of `scale`.

    With a box: the window at its centre, averaged to the crop's side. Without: the centre of the image, at most
    `limit_side` each way; images smaller than SSIM's window of 11 pixels and a border of `scale` are left out.

    Raises:
        DataError: No image is large enough.
    """
    if crop.box:
        store = holding(store, crop)
        return [_centre_of_box(store[i], crop, crop.box) for i in range(len(store))]
    least = 11 + 2 * scale
    store = store.at_least(least, least)
    if not len(store):
        raise DataError(f"none of the held-out images has {least}x{least} pixels")
    return [_centre(store[i], limit_side, scale) for i in range(len(store))]


def _centre(image: NDArray[np.uint8], limit_side: int, scale: int) -> NDArray[np.uint8]:
    height, width = (min(side, limit_side) // scale * scale for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width].copy()


def _centre_of_box(image: NDArray[np.uint8], crop: Crop, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    left, top, width, height = box
    x, y = left + (width - crop.window) // 2, top + (height - crop.window) // 2
    window = image[y : y + crop.window, x : x + crop.window]
    factor = crop.window // crop.side
    blocks = window.reshape(crop.side, factor, crop.side, factor, 3)
    return np.floor(blocks.mean(axis=(1, 3)) + 0.5).astype(np.uint8)
