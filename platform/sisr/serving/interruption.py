"""The end of work for which nobody waits any more: between two layers of a generator, or two tiles."""

import threading
from typing import Any

from torch import nn

_current = threading.local()  # the interruption that a thread works under


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

    def __exit__(self, *_: object) -> None:
        _current.interruption = None

    def check(self) -> None:
        """Raise if nobody waits for the result any more."""
        if self._event.is_set():
            raise InterruptedWorkError


def make_interruptible(generator: nn.Module) -> None:
    """Let an `Interruption` end the generator's work before each of its layers."""

    def check(module: nn.Module, args: Any) -> None:
        if interruption := getattr(_current, "interruption", None):
            interruption.check()

    for module in generator.modules():
        module.register_forward_pre_hook(check)
