"""Numbers that the device computes and the host looks at a step later, so that neither waits for the other."""

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

Label = TypeVar("Label")


class Inbox(Generic[Label]):
    """Rows of numbers: taken as they are made, sent together, looked at once they have arrived.

    When each happens is for its owner to decide, by counting steps: never by whether something has already arrived, or
    workers would decide differently.
    """

    def __init__(self, combine: Callable[[Tensor], Tensor] | None = None) -> None:
        """Start empty; `combine` is applied to all numbers (n,) that are sent together, on the device."""
        self._combine = combine
        self._unsent: list[tuple[Label, list[Tensor]]] = []
        self._sent: list[tuple[list[tuple[Label, int]], Tensor, torch.cuda.Event | None]] = []

    @property
    def unsent(self) -> int:
        """How many rows were added since the last `send`."""
        return len(self._unsent)

    def add(self, label: Label, numbers: list[Tensor]) -> None:
        """Take one row, of scalars on one device."""
        self._unsent.append((label, numbers))

    def send(self) -> None:
        """Start what was added on its way to the host."""
        rows, self._unsent = self._unsent, []
        if not rows:
            return
        values = torch.stack([number.detach().double() for _, numbers in rows for number in numbers])
        if self._combine is not None:
            values = self._combine(values)
        # From a GPU into pinned memory: the copy is queued, and the host goes on.
        arriving = values.to("cpu", non_blocking=True)
        done = None
        if values.is_cuda:
            done = torch.cuda.Event()
            done.record()
        self._sent.append(([(label, len(numbers)) for label, numbers in rows], arriving, done))

    def take(self) -> list[tuple[Label, list[float]]]:
        """Return all rows sent and not yet taken, in their order; wait for those that have not arrived."""
        sent, self._sent = self._sent, []
        found = []
        for rows, values, done in sent:
            if done is not None:
                done.synchronize()
            numbers = iter(values.numpy().tolist())
            found += [(label, [next(numbers) for _ in range(count)]) for label, count in rows]
        return found
