"""Any number of workers takes a batch exactly, and what each holds counts by its examples."""

from fractions import Fraction

import pytest

from sisr.errors import ConfigError
from sisr.training.batch_split import check_equal, split_batch


@pytest.mark.parametrize("accumulate", [1, 2, 3])
@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_every_example_is_taken_once_and_in_the_order_of_the_ranks(world: int, accumulate: int) -> None:
    micro = [part for rank in range(world) for part in split_batch(17, rank, world, accumulate).micro]
    assert [part.first + i for part in micro for i in range(part.count)] == list(range(17))


@pytest.mark.parametrize(("batch_size", "world", "accumulate"), [(17, 5, 2), (16, 3, 1), (7, 2, 3)])
def test_weighted_means_over_micro_batches_are_the_mean_over_examples(
    batch_size: int, world: int, accumulate: int
) -> None:
    values = [Fraction(i * i) for i in range(batch_size)]
    total = Fraction(0)
    for rank in range(world):
        for part in split_batch(batch_size, rank, world, accumulate).micro:
            mean = sum(values[part.first : part.first + part.count], Fraction(0)) / part.count
            total += mean * Fraction(part.weight).limit_denominator(1000) / (world * accumulate)
    assert total == sum(values) / batch_size


def test_no_two_workers_differ_by_more_than_one_example() -> None:
    counts = [sum(split_batch(16, rank, 5).counts) for rank in range(5)]
    assert counts == [4, 3, 3, 3, 3]


def test_equal_shares_leave_every_number_untouched() -> None:
    share = split_batch(16, 1, 2, 4)
    assert {part.weight for part in share.micro} == {share.scalar_weight} == {1.0}


def test_logged_means_count_the_last_micro_batch_of_each_worker() -> None:
    first, second = (split_batch(5, rank, 2) for rank in range(2))  # three examples and two
    assert (first.scalar_weight, second.scalar_weight) == (pytest.approx(6 / 5), pytest.approx(4 / 5))


def test_more_micro_batches_than_examples_are_refused_with_the_least_batch() -> None:
    with pytest.raises(ConfigError, match=r"batch_size 4 can't be split among 3 workers x 2 .* must be 6 at least"):
        split_batch(4, 0, 3, 2)


def test_an_unequal_split_is_named_with_what_would_be_equal() -> None:
    with pytest.raises(ConfigError, match=r"batch_size 4 can't be split equally among 3 .* multiple of 3"):
        check_equal(4, 3, 1)
