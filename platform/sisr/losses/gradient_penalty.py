"""Penalties on the slope of a judge, computed in float32 at least, also under autocast.

Half precision squares gradients into overflow or zero. The judge is called under disabled autocast on images that
require a gradient; the penalty is differentiated once more when the judge steps, so the judge must be twice
differentiable. Recipes pass the judge's `forward`, which stays as it is when `torch.compile` replaces the call:
compiled networks can't be differentiated twice. Each is the mean over the batch of a per-image value, without the
weight; recipes multiply.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from sisr.nets.precision import full_precision

Judge = Callable[[Tensor], Tensor]


def wgan_gp(critic: Judge, hr: Tensor, sr: Tensor, mix: Tensor) -> Tensor:
    """Return the mean squared deviation of the gradient's L2 norm from 1 on mixtures of real and fake images.

    Gulrajani et al., "Improved Training of Wasserstein GANs", 2017, equation 3. https://arxiv.org/abs/1704.00028

    Args:
        critic: Images (n, 3, h, w) to scores (n, ...), each of its own image only (no batch norm, in theory).
        hr: Real images (n, 3, h, w).
        sr: Fake images of the same shape; gradients don't reach the generator.
        mix: Share of hr in each image's mixture, (n,) or (n, 1, 1, 1), in [0, 1].
    """
    mix = mix.reshape(-1, 1, 1, 1).to(full_precision(hr).dtype)
    mixture = mix * full_precision(hr).detach() + (1.0 - mix) * full_precision(sr).detach()
    norms = _squared_slopes(critic, mixture).clamp(min=1e-24).sqrt()  # the root of exact zeros has no gradient
    return (norms - 1.0).square().mean()


def r1(judge: Judge, hr: Tensor) -> Tensor:
    """Return the mean squared L2 norm of the judge's gradient at real images.

    Mescheder et al., "Which Training Methods for GANs do actually Converge?", 2018, equation 9, without gamma / 2.
    https://arxiv.org/abs/1801.04406
    """
    return _squared_slopes(judge, full_precision(hr).detach()).mean()


def r2(judge: Judge, sr: Tensor) -> Tensor:
    """Return the mean squared L2 norm of the judge's gradient at fake images; equation 10 of the same."""
    return _squared_slopes(judge, full_precision(sr).detach()).mean()


def _squared_slopes(judge: Judge, images: Tensor) -> Tensor:
    """Return (n,): the squared L2 norm of the gradient of each image's output with respect to the image."""
    with torch.autocast(images.device.type, enabled=False):
        images = images.requires_grad_()
        (gradient,) = torch.autograd.grad(judge(images).sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3))
