"""Domains: what values a swept setting takes, and how likely each is; the distributions are Ray Tune's.

Every draw takes its random numbers from a `random.Random`. Numbers that are not whole come out with six significant
digits, so that a name, a table and a file show exactly what was trained.
"""

import math
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

DIGITS = 6
RESAMPLE = 0.25  # how often PBT draws a setting anew instead of moving it
FACTORS = (0.8, 1.2)  # what PBT multiplies a number by


@dataclass(frozen=True)
class Number:
    """Numbers from `low` to `high`, both included; where there is a `q`, its multiples only."""

    low: float
    high: float
    log: bool = False  # uniform in the logarithm
    q: float | None = None
    whole: bool = False  # integers; `low`, `high` and `q` are some, too
    normal: tuple[float, float] | None = None  # mean and standard deviation; None: uniform
    is_moved: ClassVar[bool] = True  # whether `explore` may return another value than it is given

    def sample(self, rng: Random) -> float:
        """Return a random value."""
        if self.normal:
            value = rng.gauss(*self.normal)
            while not self.low <= value <= self.high:  # 1 in 16,000
                value = rng.gauss(*self.normal)
            return self.fit(value)
        if not self.whole:
            if self.log:
                return self.fit(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))
            return self.fit(rng.uniform(self.low, self.high))
        step = int(self.q or 1)
        first, last = int(self.low) // step, int(self.high) // step
        if self.log:
            return self.fit(int(math.exp(rng.uniform(math.log(first), math.log(last + 1)))) * step)
        return rng.randint(first, last) * step

    def fit(self, value: float) -> float:
        """Return the nearest value of the domain."""
        if self.whole:
            step = int(self.q or 1)
            return min(max(round(value / step) * step, self.low), self.high)
        return min(max(rounded(value, self.q), self.low), self.high)

    def contains(self, value: Any) -> bool:
        """Return whether `value` could come out."""
        if not is_number(value) or not self.low <= value <= self.high:
            return False
        q = self.q or (1 if self.whole else None)
        return q is None or math.isclose(value / q, round(value / q), abs_tol=1e-9)

    def corners(self) -> list[Any]:
        """Return the outermost values."""
        return [self.low, self.high]

    def explore(self, value: Any, rng: Random) -> Any:
        """Return PBT's next try: `value` a fifth smaller or larger, by at least `q`, or, sometimes, a random value."""
        if not value or rng.random() < RESAMPLE:  # no factor leads away from 0
            return self.sample(rng)
        factor = rng.choice(FACTORS)
        moved = self.fit(value * factor)
        least = self.q or (1.0 if self.whole else 0.0)
        return moved if moved != value else self.fit(value + math.copysign(least, value * (factor - 1)))


@dataclass(frozen=True)
class Choice:
    """The values of a list, all equally likely."""

    values: tuple[Any, ...]

    def sample(self, rng: Random) -> Any:
        """Return a random value."""
        return rng.choice(self.values)

    def index(self, value: Any) -> int | None:
        """Return where `value` stands in the list, or None; 1 and true are two values."""
        return next((i for i, v in enumerate(self.values) if v == value and type(v) is type(value)), None)

    def contains(self, value: Any) -> bool:
        """Return whether `value` is in the list."""
        return self.index(value) is not None

    def corners(self) -> list[Any]:
        """Return all values."""
        return list(self.values)

    @property
    def is_moved(self) -> bool:
        """Whether `explore` may return another value than it is given."""
        return all(map(is_number, self.values))

    def explore(self, value: Any, rng: Random) -> Any:
        """Return a neighbour of a number. What is no number stays: it may have decided the copied network's shape."""
        if not self.is_moved:
            return value
        at = self.index(value)
        if at is None or rng.random() < RESAMPLE:
            return self.sample(rng)
        return rng.choice([self.values[i] for i in (at - 1, at + 1) if 0 <= i < len(self.values)])


Domain = Number | Choice


def rounded(value: float, q: float | None) -> float:
    """Return the nearest multiple of `q` with six significant digits; without a `q` only these."""
    return float(f"{round(value / q) * q if q else value:.{DIGITS}g}")


def is_number(value: Any) -> bool:
    """Return whether a setting's value is a number; true is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)
