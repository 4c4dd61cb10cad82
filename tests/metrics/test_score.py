import math

import pytest

from sisr.metrics.score import score


def test_bicubic_itself_scores_zero() -> None:
    assert score(28.4, 28.4, 0.3, 0.3) == 0.0


def test_half_the_error_and_half_the_distance_are_one_doubling() -> None:
    psnr = 28.0 + 20 * math.log10(2)  # half the rmse
    assert score(psnr, 28.0, 0.1, 0.2) == pytest.approx(1.0)


def test_what_one_gains_the_other_can_lose() -> None:
    psnr = 28.0 - 20 * math.log10(2)
    assert score(psnr, 28.0, 0.1, 0.2) == pytest.approx(0.0)


def test_a_squared_distance_counts_by_its_root() -> None:
    assert score(30.0, 28.0, 0.1**2, 0.2**2, power=2) == pytest.approx(score(30.0, 28.0, 0.1, 0.2))


def test_perfect_images_score_infinity_and_equal_ones_zero_never_nan() -> None:
    assert score(math.inf, 28.0, 0.0, 0.2) == math.inf
    assert score(math.inf, math.inf, 0.0, 0.0) == 0.0
    assert score(28.0, math.inf, 0.2, 0.0) == -math.inf


def test_nan_stays_nan() -> None:
    assert math.isnan(score(math.nan, 28.0, math.nan, 0.2))
