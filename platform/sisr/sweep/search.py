"""The next point to try: a pure function of what is known about a sweep, so that no interruption makes it forget."""

import hashlib
import itertools
from random import Random
from typing import Any

from sisr.sweep.space.space import SearchSpace
from sisr.sweep.state import Sweep

STARTUP = 10  # trials that must have been measured before TPE learns from them


def suggest(sweep: Sweep, space: SearchSpace) -> dict[str, Any]:
    """Return the swept settings of the next trial; there must be one: fewer are begun than planned.

    The first trial of `random` and `tpe` has the recipe's own settings, where the space holds them: what every other
    one must beat.
    """
    plan, number = sweep.plan, len(sweep.trials)
    if plan.search == "grid":
        return next(itertools.islice(space.grid(), number, None))
    if number == 0 and (baseline := space.baseline()):
        return baseline
    if plan.search == "random" or sum(bool(trial.curve) for trial in sweep.trials) < STARTUP:
        return space.sample(Random(seed(plan.seed, number)))

    from sisr.sweep import tpe

    return tpe.suggest(sweep, space, seed(plan.seed, number))


def seed(sweep_seed: int, number: int) -> int:
    """Return the 32-bit seed of one trial's draws."""
    return int.from_bytes(hashlib.blake2b(f"{sweep_seed}/{number}".encode(), digest_size=4).digest())
