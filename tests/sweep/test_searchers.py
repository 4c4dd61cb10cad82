"""Searchers that are not ours, as a sweep sees them: what they are told, and what becomes of their answers."""

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import Field

from sisr.config.settings import Settings
from sisr.errors import ConfigError
from sisr.sweep import searchers
from sisr.sweep.earlier import Earlier
from sisr.sweep.plan import Plan
from sisr.sweep.search import seed, suggest
from sisr.sweep.searchers import Places, Point, Question, Scale
from sisr.sweep.space.space import SearchSpace, build
from sisr.sweep.state import State, Sweep, Trial

STEPS = 90
SPACE = {
    "learning_rate": {"loguniform": [1e-4, 1e-2]},
    "blocks": {"randint": [2, 5]},
    "norm": {"choice": ["batch", "group", "none"]},
}


class Config(Settings):
    """One setting of each kind."""

    learning_rate: float = Field(1.0, gt=0)  # outside of the space: the first trial is the searcher's
    blocks: int = 4
    norm: str = "batch"


@dataclass
class Recorder:
    """Answers with the same points again and again, and remembers what it was asked."""

    answers: list[Point | None]
    asked: list[Question] = field(default_factory=list)

    def check(self, question: Question) -> None:
        self.asked.append(question)

    def suggest(self, question: Question) -> Point | None:
        self.asked.append(question)
        return self.answers[(len(self.asked) - 1) % len(self.answers)]


def space_of(space: dict[str, Any] = SPACE, *constraints: str) -> SearchSpace:
    return build(space, Config, source="test", constraints=constraints)


def sweep_of(*trials: tuple[dict[str, Any], State, list[tuple[int, dict[str, float]]]], **more: Any) -> Sweep:
    values = {"objective": ("val/score",), "mode": ("max",), "trials": 12, "search": "theirs", **more}
    sweep = Sweep(Plan(name="n", recipe="r", data="demo", space=SPACE, steps=STEPS, **values))
    for params, state, curve in trials:
        sweep.trials.append(Trial(len(sweep.trials), params, params, state, curve=curve))
    return sweep


def params(rate: float = 1e-3, blocks: int = 3, norm: str = "group") -> dict[str, Any]:
    return {"learning_rate": rate, "blocks": blocks, "norm": norm}


def test_settings_are_axes_on_which_equal_distances_mean_the_same() -> None:
    theirs = Recorder([None])
    suggest(sweep_of(), space_of(), theirs)
    assert theirs.asked[0].axes == {"learning_rate": Scale(-4, -2), "blocks": Scale(1.5, 4.5), "norm": Places(3)}


def test_a_point_becomes_values_of_the_space() -> None:
    theirs = Recorder([{"learning_rate": math.log10(2e-3), "blocks": 4.49, "norm": 2.0}])
    assert suggest(sweep_of(), space_of(), theirs) == params(2e-3, 4, "none")


def test_a_searcher_is_told_every_measured_trial_before_those_that_run() -> None:
    sweep = sweep_of(
        (params(1e-4), "running", []),
        (params(1e-2, 2, "batch"), "paused", [(30, {"val/score": 1.0}), (60, {"val/score": 2.0})]),
        (params(1e-3, 4, "none"), "diverged", [(30, {"val/score": 9.0})]),
    )
    theirs = Recorder([None])
    suggest(sweep, space_of(), theirs)
    assert [(one.point, one.curve, one.lost) for one in theirs.asked[0].told] == [
        ({"learning_rate": -2, "blocks": 2, "norm": 0}, ((30, 1.0), (60, 2.0)), False),
        ({"learning_rate": -3, "blocks": 4, "norm": 2}, (), True),
        ({"learning_rate": -4, "blocks": 3, "norm": 1}, (), False),
    ]


def test_trials_of_an_earlier_sweep_are_told_first_and_its_best_setting_is_tried_without_asking() -> None:
    earlier = Earlier(
        sweep="old", trial=3, fingerprint="f", params=params(5e-4), curve=((STEPS, {"val/score": 4.0}),), best=True
    )
    sweep, theirs = sweep_of(earlier=(earlier,), fingerprint="f"), Recorder([None])
    assert suggest(sweep, space_of(), theirs) == params(5e-4)
    sweep.trials.append(Trial(0, params(5e-4), params(5e-4)))
    suggest(sweep, space_of(), theirs)
    assert [one.curve for one in theirs.asked[0].told] == [((STEPS, 4.0),), ()]


def test_where_a_searcher_would_wait_the_next_trial_is_random_and_the_same_each_time() -> None:
    space = space_of()
    found = [suggest(sweep_of(), space, Recorder([None])) for _ in range(2)]
    assert found[0] == found[1]
    assert space.contains(found[0])


def test_a_searcher_is_asked_again_with_another_seed_until_the_constraints_are_met() -> None:
    points: list[Point | None] = [{"learning_rate": -3.0, "blocks": n, "norm": 0.0} for n in (4.0, 3.0, 2.0)]
    theirs = Recorder(points)
    assert suggest(sweep_of(), space_of(SPACE, "blocks < 3"), theirs)["blocks"] == 2
    assert [question.seed for question in theirs.asked] == [seed(0, 0) + n for n in range(3)]


def test_chance_finds_what_meets_the_constraints_where_a_searcher_does_not() -> None:
    theirs = Recorder([{"learning_rate": -3.0, "blocks": 4.0, "norm": 0.0}])
    assert suggest(sweep_of(), space_of(SPACE, "blocks < 3"), theirs)["blocks"] == 2
    assert len(theirs.asked) == searchers.ASKED


@pytest.mark.parametrize(
    ("sweep", "space", "message"),
    [
        (sweep_of(objective=("val/psnr_y", "val/perceptual"), mode=("max", "min")), space_of(), "one objective"),
        (
            sweep_of(),
            space_of({**SPACE, "blocks": {"randint": [2, 5], "when": {"norm": "batch"}}}),
            "theirs knows no conditions, but blocks has a `when`: use search tpe",
        ),
        (sweep_of(search="tpe", search_options={"gamma": 1}), space_of(), "search tpe has no options, got gamma"),
    ],
)
def test_what_a_searcher_can_not_do_is_refused(sweep: Sweep, space: SearchSpace, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        searchers.check(sweep, space, Recorder([None]))


def test_a_search_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ConfigError, match="no search 'bayes'; all searches: random, grid, tpe"):
        searchers.check(sweep_of(search="bayes"), space_of(), None)


def test_a_searcher_is_checked_with_trials_of_the_space_that_it_might_be_told_of() -> None:
    theirs = Recorder([None])
    searchers.check(sweep_of(), space_of(), theirs)
    assert len(theirs.asked[0].told) > 1
    assert all(one.curve for one in theirs.asked[0].told)


def test_options_of_a_searcher_make_another_sweep_and_none_leave_the_name_as_it_was() -> None:
    plain, other = sweep_of().plan, sweep_of(search_options={"gamma": 0.5}).plan
    assert plain.hash(()) != other.hash(())
    assert "search_options" not in plain._content()
