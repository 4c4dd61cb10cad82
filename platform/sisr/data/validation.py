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
    small for that, or smaller than SSIM's window of 11 pixels and a border of `scale`, are left out.

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
        self.crop, self.limit_side, self.multiple = crop, limit_side, scale * size_multiple
        least = -(-(11 + 2 * scale) // self.multiple) * self.multiple
        left, top, width, height = crop.box or (0, 0, least, least)
        self.store = store.at_least(left + width, top + height)
        if not len(self.store):
            raise DataError(f"none of {len(store)} held-out images has {left + width}x{top + height} pixels")

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:  # type: ignore[override]
        """Return a copy of one example."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        image = self.store[index]
        if self.crop.box:
            return _centre_of_box(image, self.crop, self.crop.box)
        height, width = (min(side, self.limit_side) // self.multiple * self.multiple for side in image.shape[:2])
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        return image[top : top + height, left : left + width].copy()

    @property
    def least_side(self) -> int:
        """Shortest side of all examples, in px."""
        if self.crop.box:
            return self.crop.side
        return min(int(self.store.shapes[:, 1:].min()), self.limit_side) // self.multiple * self.multiple


def _centre_of_box(image: NDArray[np.uint8], crop: Crop, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    left, top, width, height = box
    x, y = left + (width - crop.window) // 2, top + (height - crop.window) // 2
    window = image[y : y + crop.window, x : x + crop.window]
    factor = crop.window // crop.side
    blocks = window.reshape(crop.side, factor, crop.side, factor, 3)
    return np.floor(blocks.mean(axis=(1, 3)) + 0.5).astype(np.uint8)
