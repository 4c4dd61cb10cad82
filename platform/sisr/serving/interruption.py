"""Work of a generator that another thread can end, between two layers."""

import threading
from types import TracebackType
from typing import Any

from torch import nn

_current = threading.local()


class InterruptedWorkError(Exception):
    """Nobody waits for the result any more."""


class Interruption:
    """Whether somebody waits for the result of a `with` block of this.

    After `set`, the generator's next layer raises InterruptedWorkError inside the block.
    """

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """End the work."""
        self._event.set()

    def __enter__(self) -> None:
        _current.interruption = self
        self.check()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        _current.interruption = None

    def check(self) -> None:
        """Raise if nobody waits for the result any more."""
        if self._event.is_set():
            raise InterruptedWorkError


def make_interruptible(generator: nn.Module) -> None:
    """Let an `Interruption` end the generator's work before each of its layers."""
    for module in generator.modules():
        module.register_forward_pre_hook(_check)


def _check(module: nn.Module, args: Any) -> None:
    interruption = getattr(_current, "interruption", None)
    if interruption is not None:
        interruption.check()
