"""What the demo makes of its search."""

import pytest

from sisr.driver import demo
from sisr.evaluation.measure import ImageResult, Measurement
from sisr.evaluation.ranking import Cost, rank
from sisr.sweep.plan import Plan
from sisr.sweep.state import Sweep, Trial

SETTINGS = {"learning_rate": 2e-4, "adversarial_weight": 0.3}


def test_the_run_is_as_long_as_its_trial_was_getting_better() -> None:
    plan = Plan(
        name="s", recipe=demo.RECIPE, space={}, objective=("val/score",), mode=("max",), trials=1, steps=90, data="demo"
    )
    scores = [(0, 0.9), (30, 0.4), (60, 0.6), (90, 0.5)]
    trial = Trial(0, SETTINGS, SETTINGS, curve=[(step, {"val/score": value}) for step, value in scores])
    assert demo.found_by(Sweep(plan, [trial]), trial) == demo.Found(SETTINGS, 60), "step 0 is before the judge"


def test_the_recipes_own_settings_are_those_of_its_defaults() -> None:
    assert demo.Found(SETTINGS, 60).own == {"learning_rate": 1e-4, "adversarial_weight": 0.1}


@pytest.mark.parametrize(("better", "word"), [(0.1, "better"), (-0.1, "worse")])
def test_the_line_on_the_search_says_what_it_gained_or_lost(better: float, word: str) -> None:
    def measured(name: str, more: float) -> Measurement:
        return Measurement(name, "rgb8", [ImageResult(f"{i}", {"psnr_y": 30.0, "score": 0.5 + more}) for i in range(6)])

    runs = [measured(demo.OWN, 0), measured(demo.GAN, better)]
    line = demo.what_the_search_gained(demo.Found(SETTINGS, 60), rank(runs, [Cost(1, 2)] * 2, demo.OWN))
    assert f"score {0.5 + better:.3f} against 0.500" in line
    assert f"({word}); 60 steps" in line


def test_a_search_that_finds_nothing_says_so() -> None:
    runs = [Measurement(name, "rgb8", [ImageResult("0", {"psnr_y": 30.0})]) for name in (demo.PIXELS, demo.GAN)]
    line = demo.what_the_search_gained(demo.Found(SETTINGS, 60), rank(runs, [Cost(1, 2)] * 2, demo.PIXELS))
    assert "nothing better" in line
