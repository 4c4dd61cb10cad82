"""Adversarial losses, of a judge and of its generator, as functions of the judge's outputs; a critic's penalty.

`real_*` is the judge's output on hr, `fake_*` on sr; any shape (n, ...). Logits are positive for "real"; scores are
unbounded. Every loss is a scalar mean, computed in float32 at least. A judge's loss is the sum of its losses on real
and on fake images, without a factor 1/2.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from sisr.nets.numeric import all_reduce_sum, full_precision, num_workers


def bce_discriminator(real_logits: Tensor, fake_logits: Tensor, real_label: float = 1.0) -> Tensor:
    """Return the sum of both cross-entropies: 2 ln 2 when the judge can't tell; 0 at best for a real label of 1.

    Goodfellow et al., "Generative Adversarial Networks", 2014, equation 1. https://arxiv.org/abs/1406.2661
    One-sided label smoothing: Salimans et al., "Improved Techniques for Training GANs", 2016, section 3.4.

    `real_label` is the probability that real images are asked to get; fakes are always asked to get 0.
    """
    real_logits, fake_logits = full_precision(real_logits), full_precision(fake_logits)
    real = real_label * F.softplus(-real_logits) + (1.0 - real_label) * F.softplus(real_logits)
    return real.mean() + F.softplus(fake_logits).mean()


def bce_generator(fake_logits: Tensor) -> Tensor:
    """Return the non-saturating loss, mean of -log D(sr): ln 2 when the judge can't tell.

    Goodfellow et al., 2014, section 3.
    """
    return F.softplus(-full_precision(fake_logits)).mean()


def wasserstein_critic(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Return mean D(sr) - mean D(hr): minus the estimated distance, if the critic is 1-Lipschitz.

    Arjovsky et al., "Wasserstein GAN", 2017, algorithm 1. https://arxiv.org/abs/1701.07875
    """
    return full_precision(fake_scores).mean() - full_precision(real_scores).mean()


def wasserstein_generator(fake_scores: Tensor) -> Tensor:
    """Return -mean D(sr)."""
    return -full_precision(fake_scores).mean()


def relativistic_average_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return the loss of a judge of real images against the average fake, and the reverse; 2 ln 2 if it can't tell.

    Wang et al., "ESRGAN", 2018, equation 1. https://arxiv.org/abs/1809.00219
    The averages are over the examples of all workers: two workers step like one.
    """
    real_logits, fake_logits = full_precision(real_logits), full_precision(fake_logits)
    average_real, average_fake = _averages(real_logits, fake_logits)
    real = F.softplus(-(real_logits - average_fake))
    return real.mean() + F.softplus(fake_logits - average_real).mean()


def relativistic_average_generator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return the mirror image: fakes should look more real than the average real image, and the reverse.

    Wang et al., 2018, equation 2.
    """
    return relativistic_average_discriminator(fake_logits, real_logits)


def wgan_gp(critic: Callable[[Tensor], Tensor], hr: Tensor, sr: Tensor, mix: Tensor) -> Tensor:
    """Return the mean squared deviation of the gradient's L2 norm from 1 on mixtures of real and fake images.

    Gulrajani et al., "Improved Training of Wasserstein GANs", 2017, equation 3. https://arxiv.org/abs/1704.00028
    It is computed in float32 at least, also under autocast: half precision squares gradients into overflow or zero.
    Recipes pass a network's `forward`, which stays as it is when `torch.compile` replaces the call: the penalty is
    differentiated once more when the critic steps, and compiled networks can't be.

    `critic` makes scores (n, ...) of images (n, 3, h, w), each of its own image only (no batch norm, in theory). `mix`,
    (n,) or (n, 1, 1, 1), is the share of hr in each mixture, in [0, 1]. Gradients don't reach the generator.
    """
    mix = mix.reshape(-1, 1, 1, 1).to(full_precision(hr).dtype)
    mixture = mix * full_precision(hr).detach() + (1.0 - mix) * full_precision(sr).detach()
    with torch.autocast(hr.device.type, enabled=False):
        mixture = mixture.requires_grad_()
        (gradient,) = torch.autograd.grad(critic(mixture).sum(), mixture, create_graph=True)
    norms = gradient.square().sum(dim=(1, 2, 3)).clamp(min=1e-24).sqrt()  # the root of exact zeros has no gradient
    return (norms - 1.0).square().mean()


def weighted(network: str, terms: Mapping[str, tuple[float, Tensor]]) -> dict[str, Tensor]:
    """Return `network/total`, the weighted sum of all terms, and each term unweighted as `network/NAME`.

    `terms` are weight and value, a scalar, by name; added in this order.
    """
    total = torch.stack([weight * value for weight, value in terms.values()]).sum()
    return {f"{network}/total": total} | {f"{network}/{name}": value for name, (_, value) in terms.items()}


def _averages(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return both means (2,) over all workers; one collective for the two."""
    if num_workers() == 1:
        return torch.stack([real_logits.mean(), fake_logits.mean()])
    counts = [logits.new_full((), logits.numel()) for logits in (real_logits, fake_logits)]
    sums, counts = all_reduce_sum(torch.stack([real_logits.sum(), fake_logits.sum(), *counts])).split(2)
    return sums / counts.detach()
