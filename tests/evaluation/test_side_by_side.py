"""Several images at a time."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from sisr.evaluation.measure import Original, evaluate_models
from sisr.evaluation.side_by_side import in_order
from sisr.inference.tiled import Bicubic
from sisr.metrics.protocol import protocol
from sisr.metrics.swd import Swd


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_results_come_in_the_items_order_whoever_ends_first(at_once: int) -> None:
    later = threading.Event()

    def work(number: int, item: str) -> str:
        if number == 0 and at_once > 1:
            assert later.wait(20), "the second began beside the first"
        later.set()
        return f"{number}{item}"

    assert list(in_order("abcde", work, at_once)) == [(c, f"{i}{c}") for i, c in enumerate("abcde")]


def test_no_more_items_are_taken_than_are_worked_on() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in range(100):
            taken.append(i)
            yield i

    next(in_order(items(), lambda number, item: item, 2))
    assert len(taken) == 3


def test_the_first_error_is_raised() -> None:
    def work(number: int, item: int) -> int:
        return 1 // item

    with pytest.raises(ZeroDivisionError):
        list(in_order([1, 0, 1], work, 2))


def test_images_side_by_side_measure_as_one_after_another() -> None:
    rng = np.random.default_rng(0)
    images = [Original(f"{i}.png", rng.integers(0, 256, (48 + 4 * i, 60, 3), dtype=np.uint8)) for i in range(5)]
    found = [
        evaluate_models(
            [("net", Bicubic(2)), ("bicubic", "bicubic")], images, 2, protocol("rgb8"), distance=Swd(), at_once=n
        )
        for n in (1, 3)
    ]
    assert [each.to_json() for each in found[0]] == [each.to_json() for each in found[1]]
