"""What `--workers` says."""

import pytest

from sisr.driver.run.workers import Workers, check_batch, exactly, parse
from sisr.errors import ConfigError


@pytest.mark.parametrize(("text", "least", "most"), [("1", 1, 1), ("4", 4, 4), ("2:8", 2, 8), ("3:3", 3, 3)])
def test_a_number_or_a_range_is_understood(text: str, least: int, most: int) -> None:
    assert parse(text) == Workers(least, most)
    assert parse(text).elastic is (least < most)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8:2", "the least comes first, as in 2:8"),
        ("0", "there must be one worker at least"),
        ("0:3", "there must be one worker at least"),
        ("2:", "a number such as 4 or a range such as 2:8"),
        (":2", "a number such as 4 or a range such as 2:8"),
        ("-1", "a number such as 4 or a range such as 2:8"),
        ("2-8", "a number such as 4 or a range such as 2:8"),
        ("1:2:3", "a number such as 4 or a range such as 2:8"),
        ("two", "a number such as 4 or a range such as 2:8"),
    ],
)
def test_a_mistake_is_answered_with_what_would_be_right(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(text)


def test_one_number_of_workers_wants_equal_shares_and_a_range_an_example_for_each() -> None:
    check_batch(4, exactly(2), 2)
    check_batch(16, parse("2:8"), 1)  # 3, 5, 6 and 7 of them hold shares that differ by one
    with pytest.raises(ConfigError, match="split equally among 3 workers"):
        check_batch(16, exactly(3), 1)
    with pytest.raises(ConfigError, match="among 8 workers x 3 micro-batches: it must be 24 at least"):
        check_batch(16, parse("2:8"), 3)
