"""Which kernel made the low resolution of a picture.

The field's commonest quarrel is about the bicubic that made the lr images: a model trained on one kernel's images is
measured on another's. Mean differences of the kernels from MATLAB's, in grey levels, on photographs: Pillow 0.2,
OpenCV and torch without antialiasing 6 to 10 (other kernels: 1.3 and more).
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from sisr.data.bicubic import resize
from sisr.data.pairs import Pixels, shrunk

SAME = 0.15  # mean difference in grey levels up to which lr was made by a kernel, rounding apart; Pillow's from
# MATLAB's is 0.17 at least


def differences(lr: Pixels, hr: Pixels, scale: int) -> dict[str, float]:
    """Return by how many grey levels, on average, lr differs from hr shrunk by each kernel that lr is made with."""
    size = width, height = shrunk((hr.shape[1], hr.shape[0]), scale)
    hr = hr[: height * scale, : width * scale]
    picture, planes = Image.fromarray(hr), torch.tensor(hr).permute(2, 0, 1)[None].double()
    aliased = functional.interpolate(planes, scale_factor=1 / scale, mode="bicubic", antialias=False)[0]
    made = {
        "MATLAB bicubic": resize(hr, Fraction(1, scale)),
        "Pillow bicubic": np.asarray(picture.resize(size, Image.Resampling.BICUBIC)),
        "OpenCV bicubic, without antialiasing": aliased.round().clamp(0, 255).byte().permute(1, 2, 0).numpy(),
        "Pillow Lanczos": np.asarray(picture.resize(size, Image.Resampling.LANCZOS)),
        "area average": np.asarray(picture.resize(size, Image.Resampling.BOX)),
    }
    return {name: float(np.abs(lr.astype(int) - image.astype(int)).mean()) for name, image in made.items()}


def made_by(images: Sequence[tuple[Pixels, Pixels, int]]) -> str:
    """Return in words which kernel made the lr of a few pictures, given as lr, hr and scale."""
    each = [differences(*image) for image in images]
    means = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
    nearest, distance = min(means.items(), key=lambda item: item[1])
    if distance <= SAME:
        return nearest
    return f"no kernel that is known; the nearest, {nearest}, is {distance:.1f} grey levels away"
