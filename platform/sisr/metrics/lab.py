"""Colour as people tell colours apart.

CIE 1976 L*a*b* of sRGB (IEC 61966-2-1) under its own white, D65 for the 2 degree observer.
"""

import torch
from torch import Tensor

TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
WHITE = (0.95047, 1.0, 1.08883)


def lab(rgb: Tensor) -> Tensor:
    """Return L (0 .. 100), a and b of sRGB colours (..., 3) in [0, 1], in float64; 1 apart can just be told apart."""
    rgb = rgb.double()
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ rgb.new_tensor(TO_XYZ).T / rgb.new_tensor(WHITE)
    x, y, z = torch.where(xyz > (6 / 29) ** 3, xyz.clamp(min=0) ** (1 / 3), xyz / (3 * (6 / 29) ** 2) + 4 / 29).unbind(
        -1
    )
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-1)


def colour_shift(sr: Tensor, reference: Tensor) -> Tensor:
    """Return the Euclidean distance in Lab between the mean colours of images (n, 3, h, w) in [0, 1]: (n,), float64.

    The mean is of RGB values, which sharpening and blurring leave as they are.
    """
    ours, theirs = (lab(images.double().mean(dim=(2, 3))) for images in (sr, reference))
    return (ours - theirs).norm(dim=1)
