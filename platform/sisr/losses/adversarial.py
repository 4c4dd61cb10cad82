"""What a judge and a generator want of each other, as functions of the judge's outputs.

`real_*` is the judge's output on hr, `fake_*` on sr; any shape (n, ...). Logits are positive for "real". Every loss is
a scalar mean, computed in float32 at least.
"""

import torch.nn.functional as F
from torch import Tensor

from sisr.losses.precision import wide


def bce_discriminator(real_logits: Tensor, fake_logits: Tensor, real_label: float = 1.0) -> Tensor:
    """Return the sum of both cross-entropies: at least 0 for hard labels; 2 ln 2 when the judge can't tell.

    Goodfellow et al., "Generative Adversarial Networks", 2014, equation 1. https://arxiv.org/abs/1406.2661
    One-sided label smoothing: Salimans et al., "Improved Techniques for Training GANs", 2016, section 3.4.

    Args:
        real_logits: Of hr.
        fake_logits: Of sr.
        real_label: The probability that real images are asked to get; fakes are always asked to get 0.
    """
    real_logits, fake_logits = wide(real_logits), wide(fake_logits)
    real = real_label * F.softplus(-real_logits) + (1.0 - real_label) * F.softplus(real_logits)
    return real.mean() + F.softplus(fake_logits).mean()


def bce_generator(fake_logits: Tensor) -> Tensor:
    """Return the non-saturating loss -log D(sr): at least 0; ln 2 when the judge can't tell.

    Goodfellow et al., 2014, section 3.
    """
    return F.softplus(-wide(fake_logits)).mean()
