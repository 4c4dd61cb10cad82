"""Adversarial losses, of a judge and of its generator, as functions of the judge's outputs.

`real_*` is the judge's output on hr, `fake_*` on sr; any shape (n, ...). Logits are positive for "real"; scores are
unbounded. Every loss is a scalar mean, computed in float32 at least. A judge's loss is the sum of its losses on real
and on fake images, without a factor 1/2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from sisr.nets.collective import all_reduce_sum, num_workers
from sisr.nets.precision import full_precision


def bce_discriminator(real_logits: Tensor, fake_logits: Tensor, real_label: float = 1.0) -> Tensor:
    """Return the sum of both cross-entropies: 2 ln 2 when the judge can't tell; 0 at best for a real label of 1.

    Goodfellow et al., "Generative Adversarial Networks", 2014, equation 1. https://arxiv.org/abs/1406.2661
    One-sided label smoothing: Salimans et al., "Improved Techniques for Training GANs", 2016, section 3.4.

    Args:
        real_logits: Of hr.
        fake_logits: Of sr.
        real_label: The probability that real images are asked to get; fakes are always asked to get 0.
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


def _averages(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return both means (2,) over all workers; one collective for the two."""
    if num_workers() == 1:
        return torch.stack([real_logits.mean(), fake_logits.mean()])
    counts = real_logits.new_tensor([real_logits.numel(), fake_logits.numel()])
    sums, counts = all_reduce_sum(torch.stack([real_logits.sum(), fake_logits.sum(), *counts])).split(2)
    return sums / counts.detach()
