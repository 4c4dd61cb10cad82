"""Is one model better than another: intervals of paired differences, checked against simulation and arithmetic."""

import numpy as np
import pytest

from sisr.evaluation.bootstrap import paired_interval


def test_the_mean_is_exact_and_inside_the_interval():
    found = paired_interval([0.25, 0.5, -0.25, 1.0])
    assert found.mean == 0.375
    assert found.low < found.mean < found.high


def test_equal_differences_leave_no_doubt():
    found = paired_interval([0.5] * 20)
    assert (found.low, found.high) == (0.5, 0.5)


def test_the_same_differences_always_give_the_same_interval():
    differences = np.random.default_rng(0).normal(size=30).tolist()
    assert paired_interval(differences) == paired_interval(differences)


def test_the_interval_moves_and_turns_with_the_differences():
    differences = np.random.default_rng(1).normal(size=40)
    found, moved, turned = (paired_interval(list(d)) for d in (differences, differences + 2, -differences))
    assert (moved.low, moved.high) == pytest.approx((found.low + 2, found.high + 2))
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low), abs=0.02)


def test_the_interval_agrees_with_the_normal_law_for_many_images():
    differences = np.random.default_rng(2).normal(0.1, 1, size=2000)
    error = differences.std() / np.sqrt(2000)
    found = paired_interval(list(differences))
    assert found.low == pytest.approx(differences.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(differences.mean() + 1.96 * error, abs=0.15 * error)


def test_19_of_20_intervals_hold_the_true_difference():
    draws = np.random.default_rng(3)
    samples = draws.gamma(2.0, 0.05, size=(400, 40))  # skewed, as gains are; their true mean is 0.1
    hits = sum(i.low <= 0.1 <= i.high for i in (paired_interval(list(s), resamples=1000) for s in samples))
    assert 0.90 <= hits / 400 <= 0.98


def test_results_do_not_depend_on_how_many_fit_into_memory_at_a_time(monkeypatch):
    monkeypatch.setattr("sisr.evaluation.bootstrap.CHUNK", 64)
    small = paired_interval([0.1, 0.2, 0.4], resamples=1000)
    monkeypatch.undo()
    whole = paired_interval([0.1, 0.2, 0.4], resamples=1000)
    assert (small.low, small.high) == pytest.approx((whole.low, whole.high), abs=0.02)


@pytest.mark.parametrize("differences", [[], [0.1], [0.1, float("nan")], [0.1, float("inf")]])
def test_too_few_or_broken_numbers_are_an_error(differences):
    with pytest.raises(ValueError, match="at least 2 finite differences"):
        paired_interval(differences)
