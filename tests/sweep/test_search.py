"""The search for the next trial: what a sweep tries depends on its plan and its ledger, and on nothing else."""

import logging
import math
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from pydantic import Field

from sisr.config.settings import Settings
from sisr.sweep.earlier import Earlier
from sisr.sweep.plan import Plan
from sisr.sweep.search import STARTUP, seed, suggest
from sisr.sweep.space.space import SearchSpace, build
from sisr.sweep.state import State, Sweep, Trial

STEPS = 90


class Config(Settings):
    """A rate and a list."""

    learning_rate: float = Field(2e-4, gt=0)
    generator_steps: int = Field(2, ge=1)
    weight: float = Field(0.5, ge=0)
    norm: str = "batch"


SPACE = {
    "learning_rate": {"loguniform": [1e-5, 1e-1]},
    "generator_steps": {"choice": [1, 2, 3]},
    "weight": {"uniform": [0.0, 1.0]},
}


def space_of(space: dict[str, Any]) -> SearchSpace:
    return build(space, Config, source="test")


def sweep_of(space: dict[str, Any], search: str = "tpe", **more: Any) -> Sweep:
    values = {"objective": ("val/score",), "mode": ("max",), "trials": 1000, **more}
    return Sweep(Plan(name="n", recipe="r", data="demo", space=space, search=search, steps=STEPS, **values))


def add(sweep: Sweep, params: dict[str, Any], state: State, *curve: tuple[int, dict[str, float]]) -> None:
    trial = Trial(len(sweep.trials), params, params, state, curve[-1][0] if curve else 0, STEPS, list(curve))
    sweep.trials.append(trial)


def score(params: dict[str, Any]) -> float:
    """Best at a rate of 1e-3, two generator steps and weight 0.8."""
    distance = abs(math.log10(params["learning_rate"]) + 3) + abs(params["weight"] - 0.8)
    return -distance - (params["generator_steps"] != 2)


def ran(sweep: Sweep, space: SearchSpace, trials: int, measure: Callable[[dict[str, Any]], float] = score) -> Sweep:
    for _ in range(trials):
        params = suggest(sweep, space)
        add(sweep, params, "finished", (STEPS, {"val/score": measure(params)}))
    return sweep


def known(number: int = 30) -> Sweep:
    """A sweep that has measured random points, and nothing else."""
    sweep, space = sweep_of(SPACE), space_of(SPACE)
    for i in range(number):
        params = space.sample(Random(i))
        add(sweep, params, "finished", (STEPS, {"val/score": score(params)}))
    return sweep


def next_ones(sweep: Sweep, space: SearchSpace, count: int = 40) -> list[dict[str, Any]]:
    """What is suggested with different seeds of the search."""
    found = []
    for number in range(count):
        plan = sweep.plan.model_copy(update={"seed": number})
        params = suggest(Sweep(plan, sweep.trials), space)
        found.append(params)
    return found


@pytest.mark.parametrize("search", ["random", "tpe"])
def test_the_first_trial_is_the_recipes_own_setting(search: str) -> None:
    first = suggest(sweep_of(SPACE, search), space_of(SPACE))
    assert first == {"learning_rate": 2e-4, "generator_steps": 2, "weight": 0.5}


def test_the_first_trial_is_random_where_the_recipes_own_setting_lies_outside() -> None:
    space = {**SPACE, "weight": {"uniform": [0.6, 1.0]}}
    first = suggest(sweep_of(space), space_of(space))
    assert space_of(space).contains(first)


def test_random_trials_depend_on_seed_and_number_only() -> None:
    space = space_of(SPACE)
    one, other = (ran(sweep_of(SPACE, "random"), space, 6, measure) for measure in (score, lambda params: 1.0))
    assert [t.params for t in one.trials] == [t.params for t in other.trials]
    assert len({t.params["learning_rate"] for t in one.trials}) == 6
    assert suggest(one, space) != suggest(Sweep(one.plan.model_copy(update={"seed": 1}), one.trials), space)


def test_seeds_of_neighbours_have_nothing_in_common() -> None:
    assert len({seed(a, b) for a in range(50) for b in range(50)}) == 2500


def test_a_grid_is_tried_in_order() -> None:
    space = {"generator_steps": {"grid_search": [3, 1]}, "norm": {"choice": ["batch", "none"]}}
    sweep = ran(sweep_of(space, "grid"), space_of(space), 4, lambda params: 0.0)
    tried = [(t.params["generator_steps"], t.params["norm"]) for t in sweep.trials]
    assert tried == [(3, "batch"), (3, "none"), (1, "batch"), (1, "none")]


def test_tpe_begins_at_random() -> None:
    space = space_of(SPACE)
    tpe, random = (ran(sweep_of(SPACE, search), space, STARTUP + 1) for search in ("tpe", "random"))
    tried, drawn = ([t.params for t in sweep.trials] for sweep in (tpe, random))
    assert tried[:STARTUP] == drawn[:STARTUP]
    assert tried[STARTUP] != drawn[STARTUP]


def test_tpe_finds_better_trials_than_chance() -> None:
    space = space_of(SPACE)
    tpe, random = (ran(sweep_of(SPACE, search), space, 60) for search in ("tpe", "random"))
    late = [sum(score(t.params) for t in sweep.trials[30:]) / 30 for sweep in (tpe, random)]
    assert late[0] > late[1] + 0.5


def test_tpe_goes_the_other_way_where_less_is_better() -> None:
    more, less = known(), known()
    less.plan = less.plan.model_copy(update={"objective": ("val/swd",), "mode": ("min",)})
    for trial in less.trials:
        trial.curve = [(STEPS, {"val/swd": -trial.values["val/score"]})]
    assert suggest(more, space_of(SPACE)) == suggest(less, space_of(SPACE))


def test_tpe_learns_from_earlier_sweeps_from_its_second_trial_on() -> None:
    space, points = space_of(SPACE), [space_of(SPACE).sample(Random(i)) for i in range(30)]
    curves = [((STEPS, {"val/score": score(params)}),) for params in points]
    one = {"sweep": "old", "fingerprint": "same"}
    taken = [Earlier(**one, trial=i, params=p, curve=c) for i, (p, c) in enumerate(zip(points, curves, strict=True))]
    alone = ran(sweep_of(SPACE, fingerprint="same"), space, STARTUP)
    learning = ran(sweep_of(SPACE, fingerprint="same", earlier=tuple(taken)), space, STARTUP)
    others = ran(sweep_of(SPACE, fingerprint="others", earlier=tuple(taken)), space, STARTUP)
    mean = [sum(score(t.params) for t in sweep.trials[1:]) / (STARTUP - 1) for sweep in (alone, learning)]
    assert mean[1] > mean[0] + 0.5
    assert [t.params for t in others.trials] == [t.params for t in alone.trials]


@pytest.mark.slow
def test_suggestions_repeat_after_a_restart_in_another_process() -> None:
    program = (
        "from test_search import SPACE, known, space_of, suggest, two_objectives; s = space_of(SPACE)\n"
        "print(repr([suggest(known(), s), suggest(two_objectives(), s)]))"
    )
    here = repr([suggest(known(), space_of(SPACE)), suggest(two_objectives(), space_of(SPACE))])
    folder = str(__file__).rpartition("/")[0]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {folder!r})\n{program}"],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert done.stdout.strip() == here


@pytest.mark.parametrize("state", ["diverged", "failed"])
def test_tpe_avoids_where_trials_broke(state: State) -> None:
    sweep, space = sweep_of(SPACE), space_of(SPACE)
    for i in range(40):
        params = space.sample(Random(i))
        breaks = params["learning_rate"] > 1e-3
        late, early = (60, {"val/score": 9.0}), (30, {"val/score": 0.01 * i})
        # How far it came, and what it had before it broke, does not count.
        add(sweep, params, *((state, late) if breaks and i % 2 else (state,) if breaks else ("paused", early)))
    high = sum(params["learning_rate"] > 1e-3 for params in next_ones(sweep, space))
    assert high < 8  # by chance: 20 of 40


def test_tpe_believes_those_that_went_further_more_than_those_that_stopped_early() -> None:
    sweep, space = sweep_of(SPACE), space_of(SPACE)
    for i in range(40):
        params = space.sample(Random(i))
        low = params["learning_rate"] < 1e-3
        add(sweep, params, "paused", (30 if low else 10, {"val/score": 0.1 if low else 9.0}))
    low_ones = sum(params["learning_rate"] < 1e-3 for params in next_ones(sweep, space))
    assert low_ones > 32


def test_tpe_looks_elsewhere_while_a_trial_runs() -> None:
    sweep, space = known(), space_of(SPACE)
    first = suggest(sweep, space)

    def near(params: dict[str, Any]) -> bool:
        return abs(params["weight"] - first["weight"]) < 0.05

    lone = sum(map(near, next_ones(sweep, space)))
    for _ in range(8):
        add(sweep, first, "running")
    crowded = sum(map(near, next_ones(sweep, space)))
    assert lone > 10
    assert crowded < 3


def test_a_trial_that_goes_on_after_a_pause_keeps_what_it_has_shown() -> None:
    paused, running = known(12), known(12)
    for sweep, state in ((paused, "paused"), (running, "running")):
        for trial in sweep.trials:
            trial.state = state  # type: ignore[assignment]
    assert next_ones(paused, space_of(SPACE), 5) == next_ones(running, space_of(SPACE), 5)


def test_values_that_are_missing_or_not_finite_are_no_success() -> None:
    sweep, space = known(), space_of(SPACE)
    for value in ({}, {"val/score": math.inf}, {"val/score": math.nan}):
        add(sweep, space.sample(Random(99)), "finished", (STEPS, value))
    assert suggest(sweep, space) is not None


def two_objectives() -> Sweep:
    """High rates are better in one objective, low ones in the other; weights near 0.8 are better in both."""
    sweep = sweep_of(SPACE, objective=("val/psnr_y", "val/perceptual"), mode=("max", "min"))
    for i in range(40):
        params = space_of(SPACE).sample(Random(i))
        off, rate = abs(params["weight"] - 0.8), math.log10(params["learning_rate"])
        add(sweep, params, "finished", (STEPS, {"val/psnr_y": rate - 20 * off, "val/lpips": rate + 20 * off}))
    return sweep


def test_tpe_improves_two_objectives_at_once() -> None:
    found = next_ones(two_objectives(), space_of(SPACE))
    off = sum(abs(params["weight"] - 0.8) for params in found) / len(found)
    assert off < 0.2  # by chance: 0.34


def test_two_objectives_are_compared_at_equal_steps() -> None:
    sweep = two_objectives()
    for trial in sweep.trials:  # short trials look unbeaten: PSNR is high before the judge joins
        worse = trial.params["weight"] < 0.5
        early = (10, {"val/psnr_y": 99.0, "val/lpips": -99.0} if worse else {"val/psnr_y": 1.0, "val/lpips": 1.0})
        trial.curve = [early] if worse else [early, *trial.curve]
        trial.state, trial.step = ("paused", 10) if worse else ("finished", STEPS)
    found = next_ones(sweep, space_of(SPACE))
    assert sum(params["weight"] > 0.5 for params in found) > 32


def test_every_kind_of_domain_reaches_optuna_and_comes_back() -> None:
    space = {
        "learning_rate": {"qloguniform": [0.001, 0.1, 0.001]},
        "weight": {"quniform": [0.0, 1.0, 0.05]},
        "generator_steps": {"qlograndint": [2, 64, 2]},
        "norm": {"choice": ["batch", "none"]},
    }
    for more in ({}, {"generator_steps": {"lograndint": [1, 50]}}, {"generator_steps": {"qrandint": [4, 64, 4]}}):
        tried = ran(sweep_of(space | more), space_of(space | more), 25, lambda params: params["weight"])
        assert all(space_of(space | more).contains(trial.params) for trial in tried.trials)


def test_optuna_keeps_quiet(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        suggest(known(), space_of(SPACE))
        suggest(two_objectives(), space_of(SPACE))
    assert [record for record in caplog.records if record.levelno >= logging.INFO] == []
    assert capfd.readouterr() == ("", "")


def test_two_hundred_trials_are_no_burden() -> None:
    sweep, space = known(200), space_of(SPACE)
    suggest(sweep, space)
    started = time.process_time()
    for _ in range(5):
        suggest(sweep, space)
    assert (time.process_time() - started) / 5 < 0.15  # 0.03 s on an idle machine
