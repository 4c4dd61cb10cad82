"""Conditions between settings: what they mean, what they refuse, and what they leave of a search space."""

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import Field

from sisr.config.settings import Settings
from sisr.errors import ConfigError
from sisr.sweep.plan import Plan
from sisr.sweep.search import suggest
from sisr.sweep.space.conditions import condition, from_when
from sisr.sweep.space.file import load
from sisr.sweep.space.space import SearchSpace
from sisr.sweep.state import Sweep, Trial

HEAD = "objective: val/psnr_y\ntrials: 30\nsteps: 90\nscheduler: none\n"
JUDGED = """space:
  adversarial_weight: {choice: [0.0, 0.01, 0.1]}
  judge_rate: {loguniform: [1e-5, 1e-2], when: {adversarial_weight: "> 0"}}
  rate: {loguniform: [1e-5, 1e-2]}
"""


class Config(Settings):
    """A generator, and a judge that it may have."""

    steps: int = 1000
    rate: float = Field(2e-4, gt=0)
    judge_rate: float = Field(1e-4, gt=0)
    adversarial_weight: float = Field(0.0, ge=0)
    loss: str = "l1"
    layers: int = Field(4, ge=1)


def loaded(text: str, **asked: Any) -> SearchSpace:
    Path("s.yaml").write_text(HEAD + text)
    return load(Path("s.yaml"), Config, **asked)[1]


@pytest.mark.parametrize(
    ("text", "settings", "expected"),
    [
        ("a > 0", {"a": 1}, True),
        ("a > 0", {"a": 0}, False),
        ("1 < a <= 3", {"a": 3}, True),
        ("a <= 4 * b", {"a": 0.5, "b": 0.1}, False),
        ("a % 4 == 0 and b != 'x'", {"a": 8, "b": "y"}, True),
        ("a in [1, 2] or not b", {"a": 3, "b": False}, True),
        ("a == null", {"a": None}, True),
        ("a == true", {"a": False}, False),
        ("a > 0", {"a": None}, False),
        ("1 / a > 0", {"a": 0}, False),
        ("-a < 0", {"a": 2}, True),
    ],
)
def test_a_condition_means_what_python_says(text: str, settings: dict[str, Any], expected: bool) -> None:
    assert condition(text, settings).holds(settings) is expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a >", "'a >' is no condition; it wants one such as"),
        ("__import__('os').system('x')", "Call has no meaning here"),
        ("a.real > 0", "Attribute has no meaning here"),
        ("a ** 9 ** 9 > 0", "Pow has no meaning here"),
        ("[x for x in a]", "has no meaning here"),
        ("aa > 0", "names no setting by 'aa'"),
        ("1 < 2", "names no setting; it wants"),
        (3, "wants a condition such as"),
    ],
)
def test_what_is_no_condition_is_refused(text: Any, message: str) -> None:
    with pytest.raises(ValueError, match="(?s)" + message.replace("(", r"\(").replace("*", r"\*")):
        condition(text, ["a", "b"])


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ({"a": "> 0"}, "(a > 0)"),
        ({"a": 2, "b": [1, 2]}, "(a == 2) and (b in [1, 2])"),
        ({"loss": "l1"}, "(loss == 'l1')"),
        ("a > 0 or b", "a > 0 or b"),
    ],
)
def test_when_is_a_mapping_or_a_condition(written: Any, text: str) -> None:
    assert from_when(written) == text


def test_a_setting_that_does_not_count_has_the_recipes_own_value() -> None:
    space, rng = loaded(JUDGED), Random(0)
    drawn = [space.sample(rng) for _ in range(300)]
    without = [params["judge_rate"] for params in drawn if params["adversarial_weight"] == 0]
    assert set(without) == {1e-4}
    assert len({params["judge_rate"] for params in drawn if params["adversarial_weight"] > 0}) > 100
    assert all(space.contains(params) for params in drawn)
    assert not space.contains({"adversarial_weight": 0.0, "judge_rate": 1e-3, "rate": 1e-3})


def test_conditions_may_name_fixed_settings_and_each_other_in_any_order() -> None:
    text = "space:\n  layers: {choice: [2, 4, 8], when: \"loss == 'l2' and judge_rate > 1e-4\"}\n"
    text += '  judge_rate: {loguniform: [1e-5, 1e-3], when: {loss: "l2"}}\n  rate: {uniform: [0.1, 1]}\n'
    alone, fixed = loaded(text), loaded(text, settings=["loss=l2"])
    assert {alone.sample(Random(i))["layers"] for i in range(30)} == {4}
    assert {fixed.sample(Random(i))["layers"] for i in range(60)} == {2, 4, 8}


def test_conditions_in_a_circle_are_refused() -> None:
    text = "space:\n  layers: {choice: [1, 2], when: {rate: '> 0'}}\n  rate: {uniform: [0.1, 1], when: {layers: 1}}\n"
    with pytest.raises(ConfigError, match="the conditions of layers and rate depend on each other"):
        loaded(text)


def test_a_grid_tries_what_does_not_count_once() -> None:
    text = "search: grid\nspace:\n  adversarial_weight: {grid_search: [0.0, 0.1]}\n"
    text += "  judge_rate: {grid_search: [1e-4, 1e-3, 1e-2], when: {adversarial_weight: '> 0'}}\n"
    space = loaded(text)
    assert Counter(params["adversarial_weight"] for params in space.grid()) == {0.0: 1, 0.1: 3}
    assert space.grid_size() == 4


def test_every_point_meets_the_constraints() -> None:
    space, rng = loaded(JUDGED + "constraints: [judge_rate <= 4 * rate]\n"), Random(0)
    for _ in range(100):
        params = space.sample(rng)
        assert params["judge_rate"] <= 4 * params["rate"]
        near = space.explore(params, rng)
        assert near["judge_rate"] <= 4 * near["rate"]
        assert space.contains(near)


def test_constraints_that_nothing_meets_are_refused_before_anything_starts() -> None:
    with pytest.raises(ConfigError, match=r"s\.yaml:9: constraints: none of 10,000 random points .*judge_rate > 1"):
        loaded(JUDGED + "constraints: judge_rate > 1\n")


def test_the_command_line_replaces_constraints_and_gives_conditions() -> None:
    asked = ["judge_rate=loguniform(1e-5, 1e-3) when adversarial_weight in [0.1]"]
    space = loaded(JUDGED, space=asked, options={"constraints": ["rate < 1e-3"]})
    drawn = [space.sample(Random(i)) for i in range(60)]
    assert all(params["rate"] < 1e-3 for params in drawn)
    assert {params["judge_rate"] for params in drawn if params["adversarial_weight"] == 0.01} == {1e-4}


def test_tpe_learns_a_conditional_setting_from_the_trials_in_which_it_counted() -> None:
    space = loaded(JUDGED + "constraints: [judge_rate <= 100 * rate]\n")
    fields: dict[str, Any] = {"objective": ("val/score",), "mode": ("max",), "trials": 100, "search": "tpe"}
    sweep = Sweep(Plan(name="n", recipe="r", data="demo", space={}, steps=90, scheduler="none", **fields))
    for number in range(60):
        params = suggest(sweep, space)
        assert space.contains(params)
        # A judge helps, if its rate is near 1e-3.
        score = 0.0 if not params["adversarial_weight"] else 1 - abs(params["judge_rate"] - 1e-3) * 1000
        trial = Trial(number, params, params, "finished", 90, 90, [(90, {"val/score": score})])
        sweep.trials.append(trial)
    late = [trial.params for trial in sweep.trials[40:]]
    assert sum(params["adversarial_weight"] > 0 for params in late) >= 15  # by chance 13
    assert sum(3e-4 < params["judge_rate"] < 2e-3 for params in late) >= 10  # by chance 4
