"""How the batch of a step is split among workers and micro-batches, with the same result for any number of workers.

Where the parts differ in size, each micro-batch's mean is weighted by its examples, so that the mean over all workers
is the mean over the whole batch, as one worker would have it.
"""

from dataclasses import dataclass

from sisr.errors import ConfigError


@dataclass(frozen=True)
class MicroBatch:
    """Examples that one worker takes at a time."""

    first: int  # place in the whole batch
    count: int
    weight: float  # of its mean in the gradient, relative to the average micro-batch's: 1 where all are equal


@dataclass(frozen=True)
class WorkerBatch:
    """One worker's part of every batch."""

    micro: tuple[MicroBatch, ...]  # one after the other
    scalar_weight: float  # of the last micro-batch's mean, relative to those of the other workers

    @property
    def first(self) -> int:
        """The place of the worker's first example in the whole batch."""
        return self.micro[0].first

    @property
    def counts(self) -> list[int]:
        """How many examples each micro-batch has."""
        return [part.count for part in self.micro]


def split_batch(batch_size: int, rank: int, world: int, accumulate: int = 1) -> WorkerBatch:
    """Return one worker's part of each batch; the parts of all workers are the batch, in the order of their ranks.

    Raises:
        ConfigError: Some micro-batch would have no example.
    """
    check_smallest(batch_size, world, accumulate)
    parts = _micro_batches(batch_size, rank, world, accumulate)
    whole = world * accumulate
    last = [_micro_batches(batch_size, other, world, accumulate)[-1][1] for other in range(world)]
    return WorkerBatch(
        tuple(MicroBatch(first, count, count * whole / batch_size) for first, count in parts),
        parts[-1][1] * world / sum(last),
    )


def check_smallest(batch_size: int, workers: int, accumulate: int) -> None:
    """Raise ConfigError unless the batch has an example for each micro-batch of each worker."""
    if batch_size < workers * accumulate:
        raise ConfigError(
            f"batch_size {batch_size} can't be split among {workers} workers x {accumulate} micro-batches: "
            f"it must be {workers * accumulate} at least"
        )


def check_equal(batch_size: int, workers: int, accumulate: int) -> None:
    """Raise ConfigError unless the batch can be split equally."""
    if batch_size % (workers * accumulate):
        raise ConfigError(
            f"batch_size {batch_size} can't be split equally among {workers} workers x {accumulate} micro-batches: "
            f"it must be a multiple of {workers * accumulate}"
        )


def _micro_batches(batch_size: int, rank: int, world: int, accumulate: int) -> list[tuple[int, int]]:
    """Return (first, count) of each of a worker's micro-batches."""
    start, mine = _part(batch_size, world, rank)
    parts = [_part(mine, accumulate, micro) for micro in range(accumulate)]
    return [(start + first, count) for first, count in parts]


def _part(total: int, parts: int, number: int) -> tuple[int, int]:
    """Return (first, count) of one of `parts` parts that differ by one at most."""
    each, more = divmod(total, parts)
    return number * each + min(number, more), each + (number < more)
