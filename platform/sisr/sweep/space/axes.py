"""Swept settings as axes: which values are near each other, and which are just different."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sisr.sweep.report.numbers import short
from sisr.sweep.space.domains import is_number
from sisr.sweep.space.operators import LISTS
from sisr.sweep.state import Sweep

FEW = 4  # labels on one axis


@dataclass(frozen=True)
class Axis:
    """Where a setting's values lie: numbers between `low` and `high`, or one place for each of `labels`."""

    name: str
    log: bool = False
    low: float = 0.0
    high: float = 1.0
    labels: tuple[str, ...] = ()  # of values that are listed, in order; empty: numbers
    down: bool = False  # drawn with the least value at the top

    def number(self, value: Any) -> float | None:
        """Return a value as a number that distances make sense for: log10 where the space is logarithmic."""
        if self.labels:
            label = short(value)
            return float(self.labels.index(label)) if label in self.labels else None
        if not is_number(value) or (self.log and value <= 0):
            return None
        return math.log10(value) if self.log else float(value)

    def place(self, value: Any) -> float | None:
        """Return where a value lies, from 0 to 1; None: nowhere."""
        number = self.number(value)
        low, high = self._ends()
        if number is None:
            return None
        if low == high:
            return 0.5
        return (high - number if self.down else number - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        """Return (place, label) of a few values."""
        return [(self.place(value) or 0.0, short(value)) for value in self.labels or self.tick_values()]

    def tick_values(self) -> list[float]:
        """Return a few numbers that span the axis: decades where there are enough of them, else even steps."""
        low, high = self._ends()
        if low == high:
            return [self.low]
        if self.log:
            decades = range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)
            if len(decades) >= 2:
                return [10.0**decade for decade in decades]
        numbers = [low + (high - low) * i / (FEW - 1) for i in range(FEW)]
        return [10.0**number if self.log else number for number in numbers]

    def _ends(self) -> tuple[float, float]:
        if self.labels:
            return 0.0, float(len(self.labels) - 1)
        return (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)


def axes(sweep: Sweep) -> list[Axis]:
    """Return an axis for each swept setting that a trial has, in the space's order."""
    used: dict[str, list[Any]] = {}
    for trial in sweep.trials:
        for params in (trial.first_params, *(exploit.params for exploit in trial.exploits)):
            for name, value in params.items():
                used.setdefault(name, []).append(value)
    order = dict.fromkeys((*sweep.plan.space, *used))
    return [_axis(name, sweep.plan.space.get(name), used[name]) for name in order if name in used]


def _axis(name: str, space: Any, values: list[Any]) -> Axis:
    operators = [str(word) for word in space] if isinstance(space, Mapping) else []
    listed = any(word in LISTS for word in operators)
    if listed or not all(map(is_number, values)):
        numbers = all(map(is_number, values))
        return Axis(name, labels=tuple(dict.fromkeys(map(short, sorted(values, key=None if numbers else short)))))
    log = any("log" in word for word in operators) and min(values) > 0
    return Axis(name, log, float(min(values)), float(max(values)))
