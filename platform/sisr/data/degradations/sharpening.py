"""Sharpening by an unsharp mask, which Real-ESRGAN trains its generator towards."""

from functools import lru_cache

import torch
from torch import Tensor

from sisr.data.degradations.kernels import Kernel, filtered
from sisr.data.transfer import on_device

SIDE = 51  # px, of the Gaussian
SIGMA = 8.0  # px; what OpenCV takes for this side


def sharpened(images: Tensor, weight: float = 0.5, threshold: float = 10.0) -> Tensor:
    """Return images (n, 3, h, w) in [0, 1], sharpened where they differ from their blurred version, and clamped.

    Wang et al., "Real-ESRGAN", 2021, section 3.4: more sharpness without more visible artefacts.

    Args:
        images: Any type; computed in float32, each image by itself.
        weight: Of the difference that is added.
        threshold: Grey levels of 255 from which on a difference counts; the mask that it makes is blurred, too.
    """
    kernel = _gaussian(images.device)
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        return torch.cat([_sharpened(one, kernel, weight, threshold) for one in images.float().split(1)]).to(images)


@lru_cache(maxsize=4)
def _gaussian(device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # kept for later calls, which may be in training
        return on_device(Kernel("gaussian", SIDE, (SIGMA, SIGMA)).weights().float(), device)


def _sharpened(image: Tensor, kernel: Tensor, weight: float, threshold: float) -> Tensor:
    difference = image - filtered(image, kernel)
    mask = filtered((difference.abs() * 255 > threshold).float(), kernel)
    return mask * (image + weight * difference).clamp_(0, 1) + (1 - mask) * image
