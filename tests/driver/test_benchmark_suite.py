"""Suites of measurements: what each case says, what is left out for time, and what one failure leaves of the others."""

from typing import Any

import pytest

from sisr import recipes
from sisr.driver import benchmark
from sisr.driver.benchmark import Case, Suite
from sisr.errors import ConfigError


def test_the_suite_for_gpus_has_every_recipe_in_every_way_and_the_slow_ones_last() -> None:
    cases = benchmark.suites()["gpu"].cases
    ways = benchmark.variants()
    assert {(case.recipe, case.variant) for case in cases} == {(r, w) for r in recipes.names() for w in ways}
    assert {case.variant for case in cases[: len(recipes.names())]} == {"fp32"}
    assert cases[-1].variant == "bf16 compiled"


def test_an_unknown_suite_is_refused() -> None:
    with pytest.raises(ConfigError, match="there are gpu, smoke"):
        benchmark.run_suite("gpus", 1, lambda _: None)


@pytest.mark.slow
def test_a_suite_measures_its_cases_and_goes_on_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    suite = benchmark.suites()["smoke"]
    broken = Case("srez", "broken", {**suite.cases[0].values, "hr_crop": -1})
    monkeypatch.setattr(benchmark, "suites", lambda: {"smoke": Suite((broken, *suite.cases[:2]), 1, 2)})
    kept: list[dict[str, Any]] = []
    result = benchmark.run_suite("smoke", 5, lambda found: kept.append({**found, "cases": [*found["cases"]]}))
    assert [len(found["cases"]) for found in kept] == [1, 2, 3]
    failed, *measured = result["cases"]
    assert "hr_crop" in failed["error"]
    for case in measured:
        assert case["images_per_second"] == pytest.approx(case["batch_size"] * 1000 / case["step_ms"])
        assert case["ratio_to_plain"] == pytest.approx(case["step_ms"] / case["plain_step_ms"])
        assert case["share_of_peak"] == pytest.approx(case["tflops"] / result["peaks"][case["arithmetic"]])
        assert 0 < case["share_of_peak"] < 1
    assert [len(row) for row in benchmark.rows(result["cases"])] == [len(benchmark.HEADER)] * 3
    assert result["left_out"] == []


@pytest.mark.slow
def test_what_does_not_fit_into_the_time_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    result = benchmark.run_suite("smoke", 0, lambda _: None)
    assert result["left_out"] == ["srez fp32", "pixelshuffle fp32", "srez bf16", "pixelshuffle bf16"]
