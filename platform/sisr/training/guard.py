"""Stops a run whose numbers can't recover."""

from typing import Any

from torch import Tensor

from sisr.errors import DivergedError

PATIENCE = 3  # steps in a row without a finite gradient


class Guard:
    """Counts steps that changed nothing because a gradient was not finite.

    Such a step leaves every weight of its network as it was; one or two may happen in half precision, `PATIENCE` in a
    row mean that the weights or the data are at fault.
    """

    def __init__(self, scaled: bool = False) -> None:
        """Start afresh; `scaled` says that fp16 loss scaling looks for its scale, which takes more such steps."""
        self._patience = PATIENCE * 8 if scaled else PATIENCE
        self._bad_steps = 0

    def check(self, step: int, skipped: list[str], scalars: dict[str, Tensor]) -> None:
        """Note whether a step's gradients were finite.

        Args:
            step: The step, from 0.
            skipped: Names of the optimizers that did not move.
            scalars: What the step logged; those that are not finite are named in the error.

        Raises:
            DivergedError: The last `PATIENCE` steps all had a gradient that was not finite.
        """
        if not skipped:
            self._bad_steps = 0
            return
        self._bad_steps += 1
        if self._bad_steps < self._patience:
            return
        broken = [name for name, value in scalars.items() if not bool(value.isfinite().all())]
        terms = f"; not finite: {', '.join(broken)}" if broken else "; every logged loss was finite"
        raise DivergedError(
            f"diverged at step {step}: the gradient of {' and '.join(skipped)} was not finite in "
            f"{self._bad_steps} steps in a row{terms}. The last checkpoint is kept; try a lower learning rate"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"bad_steps": self._bad_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._bad_steps = int(state["bad_steps"])
