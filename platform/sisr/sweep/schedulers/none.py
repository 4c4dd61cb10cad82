"""No scheduler: every trial runs to its end, in one slice."""

from typing import ClassVar, Self

from sisr.config.settings import Settings
from sisr.sweep.schedulers import Slice
from sisr.sweep.state import Sweep


class Scheduler(Settings):
    """No options."""

    copies: ClassVar[bool] = False

    def planned(self, steps: int, evaluate_every: int | None) -> tuple[Self, int]:
        """Return how often trials are evaluated: ten times where nobody has asked."""
        return self, evaluate_every or max(1, steps // 10)

    def goals(self, steps: int, trial: int) -> tuple[int, ...]:
        return (steps,)

    def expected(self, trials: int, level: int) -> int:
        return trials

    def next_slice(self, sweep: Sweep) -> Slice | None:
        return Slice(None, sweep.plan.steps) if sweep.may_begin else None
