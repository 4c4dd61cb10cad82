"""What a run is validated on: one example of each held-out image, the same at every evaluation of every run."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sisr.data.augment import Crop
from sisr.data.store import Store
from sisr.errors import DataError


class ValidationImages(Sequence[NDArray[np.uint8]]):
    """One hr example of each held-out image, uint8 (h, w, 3), nothing of it random; each is cut when it is asked for.

    With a box: the window at its centre, averaged to the crop's side. Without: the centre of the image. Images too
    small for that, or smaller than SSIM's window of 11 pixels and a border of `scale`, are left out. Of pairs, hr is
    cut on whole pixels of the lr that is given, which `lr` cuts alike.

    Args:
        store: The held-out images.
        crop: How training examples are cut.
        scale: hr side / lr side.
        limit_side: px; the longest side of an example that is no box.
        size_multiple: The sides of lr must be multiples of this, so those of hr of `scale` times this.

    Raises:
        DataError: No image is large enough.
    """

    def __init__(self, store: Store, crop: Crop, scale: int, limit_side: int = 256, size_multiple: int = 1) -> None:
        self.crop, self.limit_side, self.scale, self.multiple = crop, limit_side, scale, scale * size_multiple
        least = -(-(11 + 2 * scale) // self.multiple) * self.multiple
        left, top, width, height = crop.box or (0, 0, least, least)
        self.store = store.at_least(left + width, top + height)
        if not len(self.store):
            raise DataError(f"none of {len(store)} held-out images has {left + width}x{top + height} pixels")

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:  # type: ignore[override]
        """Return a copy of one example."""
        image, (top, left, height, width) = self.store[index], self._window(index)
        window = image[top : top + height, left : left + width]
        return _averaged(window, self.crop) if self.crop.box else window.copy()

    def lr(self, index: int) -> NDArray[np.uint8]:
        """Return a copy of the lr, (h / scale, w / scale, 3), that is given with one example of a store of pairs."""
        top, left, height, width = (number // self.scale for number in self._window(index))
        return self.store.lr(index)[top : top + height, left : left + width].copy()

    def _window(self, index: int) -> tuple[int, int, int, int]:
        """Return top, left, height and width of an example in its image, in px."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        if self.crop.box:
            left, top, wide, high = self.crop.box
            height = width = self.crop.window
        else:
            left, top, high, wide = 0, 0, *map(int, self.store.shapes[index, 1:])
            height, width = (min(side, self.limit_side) // self.multiple * self.multiple for side in (high, wide))
        grid = self.scale if self.store.paired else 1
        centres = ((top, high - height), (left, wide - width))
        top, left = (max((start + rest // 2) // grid, -(-start // grid)) * grid for start, rest in centres)
        return top, left, height, width

    @property
    def least_side(self) -> int:
        """Shortest side of all examples, in px."""
        if self.crop.box:
            return self.crop.side
        return min(int(self.store.shapes[:, 1:].min()), self.limit_side) // self.multiple * self.multiple


def _averaged(window: NDArray[np.uint8], crop: Crop) -> NDArray[np.uint8]:
    factor = crop.window // crop.side
    blocks = window.reshape(crop.side, factor, crop.side, factor, 3)
    return np.floor(blocks.mean(axis=(1, 3)) + 0.5).astype(np.uint8)
