"""How many workers train a run: a number, or a range within which nodes may come and go."""

import re
from dataclasses import dataclass

from sisr.errors import ConfigError
from sisr.training.batch_split import check_equal, check_smallest


@dataclass(frozen=True)
class Workers:
    """At least and at most so many."""

    least: int
    most: int

    @property
    def elastic(self) -> bool:
        """Whether the number may change while the run goes on."""
        return self.least < self.most

    def __str__(self) -> str:
        return f"{self.least}:{self.most}" if self.elastic else str(self.most)


def exactly(number: int) -> Workers:
    """Return a number of workers that does not change."""
    return Workers(number, number)


def parse(text: str) -> Workers:
    """Return what `--workers` says: "4", or "2:8" for at least 2 and at most 8.

    Raises:
        ConfigError: It says something else.
    """
    match = re.fullmatch(r"(\d+)(?::(\d+))?", text.strip())
    if match is None:
        raise ConfigError(f"--workers wants a number such as 4 or a range such as 2:8, got {text!r}")
    least, most = int(match[1]), int(match[2] or match[1])
    if least < 1:
        raise ConfigError(f"--workers {text}: there must be one worker at least")
    if most < least:
        raise ConfigError(f"--workers {text}: the least comes first, as in {most}:{least}")
    return Workers(least, most)


def check_batch(batch_size: int, workers: Workers, accumulate: int) -> None:
    """Make sure that a batch can be divided among the workers.

    One number of workers must divide it, so that none waits for the others. In a range the number depends on the nodes,
    and parts that differ by one example are right, too, only slower.

    Raises:
        ConfigError: It can't be divided by that number, or has too few examples for the most of the range.
    """
    check = check_smallest if workers.elastic else check_equal
    check(batch_size, workers.most, accumulate)
