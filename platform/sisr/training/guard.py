"""Stops a run whose numbers can't recover."""

import math
from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Any

from torch import Tensor

from sisr.errors import DivergedError
from sisr.training.arrival import Inbox
from sisr.training.session import Session, mean_of

PATIENCE = 3  # steps in a row without a finite gradient
FACTOR = 5.0  # times the running median of the pixel loss
STREAK = 10  # steps in a row above it
WINDOW = 50  # good values, of which the median is


class Guard:
    """Watches over gradients, over the pixel loss and over what is validated.

    A step whose gradient is not finite leaves every weight of its network as it was; one or two may happen in half
    precision, `PATIENCE` in a row mean that the weights or the data are at fault.

    A device must not be waited for in every step: what a step gave is looked at when the next one has been started, or
    when a checkpoint is due. Either depends on the number of steps alone, so that all workers stop at the same one.
    """

    def __init__(self, session: Session, scaled: bool = False, pixel_loss: str = "generator/pixel") -> None:
        """Start afresh; `pixel_loss` is the logged scalar that must not explode.

        Where losses are `scaled` for fp16, the search for the scale takes more steps without a finite gradient.
        """
        self._scaled = scaled
        self._patience = PATIENCE * 8 if scaled else PATIENCE
        self._bad_steps = 0
        self._steps: Inbox[tuple[int, list[str], dict[str, Tensor]]] = Inbox()
        self._explosion = Explosion(session, pixel_loss)

    def check(self, step: int, bad: dict[str, Tensor], scalars: dict[str, Tensor]) -> None:
        """Look at step number `step`, from 0, which logged `scalars`.

        Called by all workers. `bad` is 1 for each optimizer whose gradient was not finite, which did not move, else 0.

        Raises:
            DivergedError: `PATIENCE` steps up to the one before had a gradient that was not finite, or the pixel loss
                had exploded.
        """
        self._judge_gradients()
        self._steps.add((step, list(bad), scalars), list(bad.values()))
        if self._steps.unsent + self._bad_steps >= self._patience:
            self._steps.send()
        self._explosion.add(step, scalars)

    def check_validation(self, done: int, values: Mapping[str, float], scalars: dict[str, Tensor]) -> None:
        """Look at a validation after `done` steps, the last of which logged `scalars`.

        Raises:
            DivergedError: A value is not a number.
        """
        if bad := [name for name, value in values.items() if math.isnan(value)]:
            raise DivergedError(
                f"diverged by step {done}: {', '.join(bad)} of the averaged generator's output is not a number"
                f"{_broken(scalars)}. Try a lower learning rate"
            )

    def is_healthy(self) -> bool:
        """Return whether nothing is wrong with the last step: a checkpoint of broken weights would help nobody.

        Called by all workers; waits for the device.

        Raises:
            DivergedError: As `check` does, for all steps so far.
        """
        self._steps.send()
        self._judge_gradients()
        self._explosion.settle()
        return (self._scaled or not self._bad_steps) and not self._explosion.is_open

    def _judge_gradients(self) -> None:
        for (step, names, scalars), bad in self._steps.take():
            skipped = [name for name, is_bad in zip(names, bad, strict=True) if is_bad]
            self._bad_steps = self._bad_steps + 1 if skipped else 0
            if self._bad_steps >= self._patience:
                raise DivergedError(
                    f"diverged at step {step}: the gradient of {' and '.join(skipped)} was not finite in "
                    f"{self._bad_steps} steps in a row{_broken(scalars)}. Try a lower learning rate"
                )

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs; `is_healthy` must have been asked for the last step."""
        return {"bad_steps": self._bad_steps, **self._explosion.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._bad_steps = int(state["bad_steps"])
        self._explosion.load_state_dict(state)


class Explosion:
    """Compares each step's pixel loss, averaged over workers, with the median of the last `WINDOW` good ones.

    A healthy adversarial phase raises the loss, but not by such a factor; single hard batches do, but not in a row.
    Values stay on their device until they may be a whole streak, and are judged a step after that.
    """

    def __init__(self, session: Session, term: str) -> None:
        """Start with no value of the scalar `term` seen; all workers add and settle at the same steps."""
        self._device, self._term = session.device, term
        self._values: Inbox[int] = Inbox(lambda values: mean_of(values, session))
        self._good: deque[float] = deque(maxlen=WINDOW)
        self._streak, self._began = 0, 0

    @property
    def is_open(self) -> bool:
        """Whether the last value settled was too large: perhaps the first ones of an explosion."""
        return self._streak > 0

    def add(self, step: int, scalars: dict[str, Tensor]) -> None:
        """Take the scalars of a step, after judging what was sent before it; send what may make a whole streak.

        Raises:
            DivergedError: `STREAK` values in a row, up to the step before, were too large.
        """
        self._judge_sent()
        if self._term in scalars:
            self._values.add(step, [scalars[self._term].detach().to(self._device, non_blocking=True)])
        if self._values.unsent + self._streak >= STREAK:
            self._values.send()

    def settle(self) -> None:
        """Judge all values taken so far; waits for the device.

        Raises:
            DivergedError: `STREAK` values in a row were too large.
        """
        self._values.send()
        self._judge_sent()

    def _judge_sent(self) -> None:
        for step, (value,) in self._values.take():
            self._judge(step, value)

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


def _broken(scalars: dict[str, Tensor]) -> str:
    """Return in words which losses are not finite."""
    if not scalars:
        return ""
    names = [name for name, value in scalars.items() if not bool(value.isfinite().all())]
    return f"; not finite: {', '.join(names)}" if names else "; every logged loss was finite"
