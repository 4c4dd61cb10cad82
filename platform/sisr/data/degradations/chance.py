"""Random decisions of one example, made from uniform numbers that are the example's own."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from sisr.data.draws import Draws

T = TypeVar("T")


class Chance:
    """Uniform numbers in [0, 1), taken one after another; `IndexError` when there are no more."""

    def __init__(self, numbers: Iterable[float]) -> None:
        self._numbers = list(numbers)[::-1]

    @classmethod
    def of_each(cls, draws: Draws, count: int) -> "list[Chance]":
        """Return one with `count` numbers for each example; drawn on the CPU, as they decide what is done."""
        rows = replace(draws, device="cpu").uniform("degradation", count)
        return [cls(row) for row in rows.numpy().tolist()]

    def happens(self, probability: float) -> bool:
        """Return true with this probability."""
        return self._numbers.pop() < probability

    def between(self, bounds: tuple[float, float]) -> float:
        """Return a number uniform between two bounds."""
        low, high = bounds
        return low + (high - low) * self._numbers.pop()

    def whole(self, low: int, high: int, step: int = 1) -> int:
        """Return one of low, low + step ... up to `high`, each as likely."""
        return low + step * int(self._numbers.pop() * ((high - low) // step + 1))

    def one_of(self, choices: Sequence[T], probabilities: Sequence[float] | None = None) -> T:
        """Return one of the choices: each as likely, or with its probability; these may have another sum than 1."""
        weights = probabilities or [1.0] * len(choices)
        place = self._numbers.pop() * math.fsum(weights)
        for choice, weight in zip(choices, weights, strict=True):
            place -= weight
            if place < 0:
                return choice
        return choices[-1]

    def order(self, items: Sequence[T]) -> list[T]:
        """Return the items in random order, every order as likely."""
        keys = [self._numbers.pop() for _ in items]
        return [item for _, item in sorted(zip(keys, items, strict=True), key=lambda pair: pair[0])]
