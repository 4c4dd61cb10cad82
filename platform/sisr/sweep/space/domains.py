"""Domains: what values a swept setting takes, and how likely each is; the distributions are Ray Tune's.

Every draw takes its random numbers from a `random.Random`. Numbers that are not whole come out with six significant
digits, so that a name, a table and a file show exactly what was trained.
"""

import math
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

DIGITS = 6
RESAMPLE = 0.25  # how often PBT draws a setting anew instead of moving it
FACTORS = (0.8, 1.2)  # what PBT multiplies a number by
DEVIATIONS = 4  # a normal domain ends here, so that all that it can give is known before a sweep starts


class Domain(Protocol):
    """What every domain can do."""

    def sample(self, rng: Random) -> Any:
        """Return a random value."""
        ...

    def contains(self, value: Any) -> bool:
        """Return whether `value` could come out."""
        ...

    def corners(self) -> list[Any]:
        """Return the outermost values; of a list, all."""
        ...

    @property
    def is_moved(self) -> bool:
        """Whether `explore` may return another value than it is given."""
        ...

    def explore(self, value: Any, rng: Random) -> Any:
        """Return a value near `value`, or, sometimes, a random one: PBT's next try."""
        ...


@dataclass(frozen=True)
class Real:
    """Numbers from `low` to `high`, both included; where there is a `q`, its multiples only."""

    low: float
    high: float
    log: bool = False  # uniform in the logarithm
    q: float | None = None

    def sample(self, rng: Random) -> float:
        if self.log:
            return self.fit(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        return self.fit(rng.uniform(self.low, self.high))

    def fit(self, value: float) -> float:
        """Return the nearest value of the domain."""
        return min(max(_rounded(value, self.q), self.low), self.high)

    def contains(self, value: Any) -> bool:
        return is_number(value) and self.low <= value <= self.high and _is_multiple(value, self.q)

    def corners(self) -> list[Any]:
        return [self.low, self.high]

    @property
    def is_moved(self) -> bool:
        return True

    def explore(self, value: Any, rng: Random) -> Any:
        return _moved(self, value, self.q or 0.0, rng)


@dataclass(frozen=True)
class Whole:
    """Multiples of `q` from `low` to `high`, which are multiples themselves; both included."""

    low: int
    high: int
    log: bool = False  # uniform in the logarithm
    q: int = 1

    def sample(self, rng: Random) -> int:
        first, last = self.low // self.q, self.high // self.q
        if self.log:
            return self.fit(int(math.exp(rng.uniform(math.log(first), math.log(last + 1)))) * self.q)
        return rng.randint(first, last) * self.q

    def fit(self, value: float) -> int:
        """Return the nearest value of the domain."""
        return min(max(round(value / self.q) * self.q, self.low), self.high)

    def contains(self, value: Any) -> bool:
        return is_number(value) and self.low <= value <= self.high and value % self.q == 0

    def corners(self) -> list[Any]:
        return [self.low, self.high]

    @property
    def is_moved(self) -> bool:
        return True

    def explore(self, value: Any, rng: Random) -> Any:
        return _moved(self, value, self.q, rng)


@dataclass(frozen=True)
class Normal:
    """Normally distributed numbers; those beyond four standard deviations, 1 in 16,000, are drawn again."""

    mean: float
    sd: float
    q: float | None = None

    def sample(self, rng: Random) -> float:
        value = rng.gauss(self.mean, self.sd)
        while abs(value - self.mean) > DEVIATIONS * self.sd:
            value = rng.gauss(self.mean, self.sd)
        return _rounded(value, self.q)

    def fit(self, value: float) -> float:
        """Return the nearest value of the domain."""
        low, high = self.corners()
        return float(min(max(_rounded(value, self.q), low), high))

    def contains(self, value: Any) -> bool:
        low, high = self.corners()
        return is_number(value) and bool(low <= value <= high) and _is_multiple(value, self.q)

    def corners(self) -> list[Any]:
        reach = DEVIATIONS * self.sd
        return [_rounded(self.mean - reach, self.q), _rounded(self.mean + reach, self.q)]

    @property
    def is_moved(self) -> bool:
        return True

    def explore(self, value: Any, rng: Random) -> Any:
        return _moved(self, value, self.q or 0.0, rng)


@dataclass(frozen=True)
class Choice:
    """The values of a list, all equally likely."""

    values: tuple[Any, ...]

    def sample(self, rng: Random) -> Any:
        return rng.choice(self.values)

    def index(self, value: Any) -> int | None:
        """Return where `value` stands in the list, or None; 1 and true are two values."""
        return next((i for i, v in enumerate(self.values) if v == value and type(v) is type(value)), None)

    def contains(self, value: Any) -> bool:
        return self.index(value) is not None

    def corners(self) -> list[Any]:
        return list(self.values)

    @property
    def is_moved(self) -> bool:
        return all(map(is_number, self.values))

    def explore(self, value: Any, rng: Random) -> Any:
        """Return a neighbour of a number. What is no number stays: it may have decided the copied network's shape."""
        if not self.is_moved:
            return value
        at = self.index(value)
        if at is None or rng.random() < RESAMPLE:
            return self.sample(rng)
        return rng.choice([self.values[i] for i in (at - 1, at + 1) if 0 <= i < len(self.values)])


def _moved(domain: Real | Whole | Normal, value: float, least: float, rng: Random) -> float:
    """Return `value` a fifth smaller or larger, and by at least `least`, or a random value."""
    if not value or rng.random() < RESAMPLE:  # no factor leads away from 0
        return domain.sample(rng)
    factor = rng.choice(FACTORS)
    moved = domain.fit(value * factor)
    return moved if moved != value else domain.fit(value + math.copysign(least, value * (factor - 1)))


def _rounded(value: float, q: float | None) -> float:
    if q:
        value = round(value / q) * q
    return float(f"{value:.{DIGITS}g}")


def is_number(value: Any) -> bool:
    """Return whether a setting's value is a number; true is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_multiple(value: float, q: float | None) -> bool:
    return q is None or math.isclose(value / q, round(value / q), abs_tol=1e-9)
