"""A penalty on the slope of a critic, computed in float32 at least, also under autocast.

Half precision squares gradients into overflow or zero. The critic is called under disabled autocast; the penalty is
differentiated once more when the critic steps, so it must be twice differentiable. Recipes pass its `forward`, which
stays as it is when `torch.compile` replaces the call: compiled networks can't be differentiated twice.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from sisr.nets.precision import full_precision


def wgan_gp(critic: Callable[[Tensor], Tensor], hr: Tensor, sr: Tensor, mix: Tensor) -> Tensor:
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
    with torch.autocast(hr.device.type, enabled=False):
        mixture = mixture.requires_grad_()
        (gradient,) = torch.autograd.grad(critic(mixture).sum(), mixture, create_graph=True)
    norms = gradient.square().sum(dim=(1, 2, 3)).clamp(min=1e-24).sqrt()  # the root of exact zeros has no gradient
    return (norms - 1.0).square().mean()
