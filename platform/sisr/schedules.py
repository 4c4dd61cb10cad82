"""Learning-rate schedules as pure functions of the step, so that a resumed run needs no scheduler state.

Each returns a factor in [0, 1] for the configured learning rate; steps count from 0.
"""

import math

from torch.optim import Optimizer


def constant(step: int) -> float:
    """Return 1 at every step."""
    return 1.0


def cosine(step: int, total: int, warmup: int = 0) -> float:
    """Return the factor that rises over `warmup` steps to 1 and falls along half a cosine to 0 at `total`.

    Loshchilov & Hutter, "SGDR", 2017, equation 5, without restarts. https://arxiv.org/abs/1608.03983

    Args:
        step: Steps from `total` on return 0.
        total: Length of the whole run in steps, warm-up included.
        warmup: Steps of linear rise; the first step already has 1 / warmup of the rate.
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def halving(step: int, every: int) -> float:
    """Return 1/2 to the power of how often `every` steps have passed."""
    return float(0.5 ** (step // every))


def set_learning_rate(optimizer: Optimizer, value: float) -> None:
    """Set the learning rate of all of an optimizer's parameters.

    Recipes call it at the start of each step: whatever a checkpoint held, the configured rate holds.
    """
    for group in optimizer.param_groups:
        group["lr"] = value
