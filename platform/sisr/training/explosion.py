"""Sees when the pixel loss leaves where it has been, and does not come back."""

import math
from collections import deque
from statistics import median
from typing import Any

from torch import Tensor

from sisr.errors import DivergedError
from sisr.training.session import Session, mean_over_workers

FACTOR = 5.0  # times the running median
STREAK = 10  # steps in a row
WINDOW = 50  # good values, of which the median is


class Explosion:
    """Compares each step's pixel loss, averaged over workers, with the median of the last `WINDOW` good ones.

    A healthy adversarial phase raises the loss, but not by such a factor; single hard batches do, but not in a row.
    Values stay on their device, unread, until there may be a whole streak: a GPU must not wait for them each step.
    """

    def __init__(self, session: Session, term: str) -> None:
        """Start with no value of the scalar `term` seen; all workers add and settle at the same steps."""
        self._session, self._term = session, term
        self._unread: dict[str, Tensor] = {}  # by step
        self._good: deque[float] = deque(maxlen=WINDOW)
        self._streak, self._began = 0, 0

    @property
    def is_open(self) -> bool:
        """Whether the last value settled was too large: perhaps the first ones of an explosion."""
        return self._streak > 0

    def add(self, step: int, scalars: dict[str, Tensor]) -> None:
        """Take the scalars of a step; settle as soon as that may find a streak of `STREAK` steps.

        Raises:
            DivergedError: It has.
        """
        if self._term in scalars:
            self._unread[str(step)] = scalars[self._term].detach()
        if len(self._unread) + self._streak >= STREAK:
            self.settle()

    def settle(self) -> None:
        """Judge all values taken so far.

        Raises:
            DivergedError: `STREAK` values in a row were too large.
        """
        values, self._unread = self._unread, {}
        if values:
            for step, value in mean_over_workers(values, self._session).items():
                self._judge(int(step), value)

    def _judge(self, step: int, value: float) -> None:
        if not math.isfinite(value):  # the finite check's business
            return
        usual = median(self._good) if len(self._good) == WINDOW else math.inf
        if value <= FACTOR * usual:
            self._good.append(value)
            self._streak = 0
            return
        self._began = self._began if self._streak else step
        self._streak += 1
        if self._streak == STREAK:
            raise DivergedError(
                f"diverged at step {self._began}: {self._term} has been above {FACTOR:g} x its running median for "
                f"{STREAK} steps in a row; it is {value:.4g} at step {step}, the median of the last {WINDOW} good "
                f"steps was {usual:.4g}. Try a lower learning rate or adversarial weight"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs; everything must be settled."""
        return {"good": list(self._good), "streak": self._streak, "began": self._began}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._good = deque(state["good"], maxlen=WINDOW)
        self._streak, self._began = int(state["streak"]), int(state["began"])
