"""What a sweep runs next, without training anything."""

import math
import random
from collections import Counter
from typing import Any

import pytest

from simulated_sweep import Simulation, plan
from sisr.errors import ConfigError
from sisr.sweep.report.board import rows
from sisr.sweep.report.live import summary
from sisr.sweep.schedulers import Slice, asha, next_slice
from sisr.sweep.state import Sweep, Trial, replay


def rising(params: dict[str, Any], step: int) -> float:
    """Good trials are good from the start."""
    return float(params["x"]) * math.sqrt(step)


def reached(simulation: Simulation) -> Counter[int]:
    return Counter(trial.step for trial in simulation.sweep.trials)


def test_without_a_scheduler_every_trial_runs_to_its_end_in_one_slice() -> None:
    simulation = Simulation(plan(scheduler="none"), rising)
    simulation.run()
    assert reached(simulation) == {9: 9}
    assert len(simulation.slices) == 9


def test_one_at_a_time_halving_promotes_a_third_of_each_rung() -> None:
    # Worked out by hand: 9 trials to step 1, 3 of them to step 3, 1 of these to step 9.
    simulation = Simulation(plan(), rising)
    simulation.run()
    assert reached(simulation) == {1: 6, 3: 2, 9: 1}
    assert simulation.steps == 6 * 1 + 2 * 3 + 1 * 9


@pytest.mark.parametrize("concurrency", [1, 2, 4, 9])
def test_halving_finds_the_best_trial_of_a_full_search_with_a_fraction_of_its_steps(concurrency: int) -> None:
    simulation = Simulation(plan(trials=27), rising, concurrency)
    best = simulation.run().best()
    assert best is not None
    assert best.params["x"] == max(t.params["x"] for t in simulation.sweep.trials)
    assert best.state == "finished"
    assert simulation.steps <= 0.4 * 27 * 9


@pytest.mark.parametrize("trials", [1, 2, 3, 4])
def test_halving_sends_one_trial_to_the_end_however_few_there_are(trials: int) -> None:
    simulation = Simulation(plan(trials=trials), rising, 2)
    best = simulation.run().best()
    assert best is not None
    assert best.state == "finished"
    assert best.params["x"] == max(t.params["x"] for t in simulation.sweep.trials)


def test_a_diverged_trial_is_never_promoted_and_never_best() -> None:
    def score(params: dict[str, Any], step: int) -> float:
        return math.nan if params["x"] > 0.5 else float(params["x"])

    simulation = Simulation(plan(trials=27), score, 2)
    best = simulation.run().best()
    assert best is not None
    assert best.params["x"] <= 0.5
    assert {t.step for t in simulation.sweep.trials if t.state == "diverged"} == {0}


def test_a_trial_that_diverges_late_leaves_its_place_to_the_next() -> None:
    simulation = Simulation(plan(trials=27), lambda p, step: math.nan if step > 1 and p["x"] > 0.8 else p["x"], 1)
    best = simulation.run().best()
    assert best is not None
    assert (best.state, best.params["x"] <= 0.8) == ("finished", True)


def test_trials_that_never_reached_a_rung_make_nobody_there_one_of_the_best() -> None:
    # 19 of 27 diverge before step 1. There, 27 were sent: 9 would go on, but only 8 are left. To step 3 went 8: 2
    # go on, and one that was the best of three before a better one came.
    simulation = Simulation(plan(trials=27), lambda p, step: math.nan if p["x"] < 0.7 else p["x"], 1)
    sweep = simulation.run()
    assert Counter(t.state for t in sweep.trials)["diverged"] == 19
    assert [sum(bool(t.values_at(rung)) for t in sweep.trials) for rung in (1, 3, 9)] == [8, 8, 3]


def test_when_all_trials_diverge_the_sweep_ends_without_a_best() -> None:
    simulation = Simulation(plan(), lambda params, step: math.nan, 2)
    assert simulation.run().best() is None
    assert {t.state for t in simulation.sweep.trials} == {"diverged"}


@pytest.mark.parametrize("scheduler", ["asha", "hyperband", "plateau", "pbt", "none"])
def test_broken_off_after_any_row_a_sweep_ends_with_every_trial_once(scheduler: str) -> None:
    options = {"pbt": {"interval": 3}, "plateau": {"interval": 3}, "hyperband": {"rungs": [1, 3], "brackets": 3}}
    settings = plan(scheduler=scheduler, **({"scheduler_options": options[scheduler]} if scheduler in options else {}))
    undisturbed = Simulation(settings, rising, 2)
    undisturbed.run()
    for cut in range(1, len(undisturbed.rows)):
        first = Simulation(settings, rising, 2)
        first.run(limit=cut)
        second = Simulation(settings, rising, 2, rows=first.rows)
        sweep = second.run()
        ends = Counter(row["trial"] for row in second.rows if row["op"] == "end" and row["state"] == "finished")
        assert [t.number for t in sweep.trials] == list(range(9)), cut
        assert set(ends.values()) <= {1}, cut
        assert not [t for t in sweep.trials if t.state in ("waiting", "running")], cut
        best, expected = sweep.best(), undisturbed.sweep.best()
        assert best is not None
        assert expected is not None
        if scheduler != "pbt":  # whose copies depend on who was measured first
            assert best.number == expected.number, cut


def test_hyperbands_brackets_have_the_published_sizes() -> None:
    # Li et al., 2018, table 1: R = 81 and eta = 3.
    scheduler = asha.Scheduler(rungs=(1, 3, 9, 27), brackets=5)
    assert Counter(scheduler.turn()) == {0: 81, 1: 34, 2: 15, 3: 8, 4: 5}
    assert [scheduler.goals(81, trial)[0] for trial in (0, 81, 115, 130, 138, 143)] == [1, 3, 9, 27, 81, 1]


def test_hyperband_halves_each_bracket_when_its_rung_is_full() -> None:
    # By hand: 9 trials begin at 1, of which 3 go on to 3 and 1 to 9; 5 begin at 3, of which 1 goes on; 3 go to the end.
    settings = plan(scheduler="hyperband", trials=17, scheduler_options={"rungs": [1, 3], "brackets": 3})
    simulation = Simulation(settings, rising, 4)
    simulation.run()
    by_bracket = [Counter(t.step for t in simulation.sweep.trials[a:b]) for a, b in ((0, 9), (9, 14), (14, 17))]
    assert by_bracket == [{1: 6, 3: 2, 9: 1}, {3: 4, 9: 1}, {9: 3}]
    first = [trial for trial in simulation.sweep.trials[:9] if trial.step > 1]
    assert {t.number for t in first} == {t.number for t in sorted(simulation.sweep.trials[:9], key=score_x)[-3:]}


def score_x(trial: Trial) -> float:
    return float(trial.params["x"])


def test_a_bracket_whose_trials_all_diverge_holds_up_no_other() -> None:
    settings = plan(scheduler="hyperband", trials=17, scheduler_options={"rungs": [1, 3], "brackets": 3})
    ninth = random.Random("trial 9").random()
    simulation = Simulation(settings, lambda p, step: math.nan if step == 1 or p["x"] == ninth else p["x"], 2)
    states = Counter(t.state for t in simulation.run().trials)
    assert states == {"diverged": 10, "paused": 3, "finished": 4}


def test_asynchronous_brackets_promote_only_among_their_own() -> None:
    settings = plan(trials=17, scheduler_options={"rungs": [1, 3], "brackets": 3})
    simulation = Simulation(settings, rising)
    simulation.run()
    assert Counter(t.step for t in simulation.sweep.trials[14:]) == {9: 3}
    assert {t.step for t in simulation.sweep.trials[9:14]} == {3, 9}


def test_more_brackets_than_rungs_are_refused() -> None:
    with pytest.raises(ConfigError, match="with 2 rungs there are at most 3"):
        asha.Scheduler(brackets=4).planned(90, None)


def test_a_trial_that_stands_still_ends_and_the_others_go_on() -> None:
    # x below a half stops getting better after 4 steps, and has then two comparisons to do so.
    options = {"interval": 2, "patience": 2}
    settings = plan(scheduler="plateau", steps=20, scheduler_options=options)
    simulation = Simulation(settings, lambda p, step: p["x"] * (min(step, 4) if p["x"] < 0.5 else step), 2)
    trials = simulation.run().trials
    assert {t.step for t in trials if t.params["x"] < 0.5} == {8}
    assert {t.step for t in trials if t.params["x"] >= 0.5} == {20}


def test_gains_below_the_least_count_as_standing_still() -> None:
    options = {"interval": 2, "patience": 2, "least": 0.5}
    settings = plan(scheduler="plateau", steps=20, scheduler_options=options)
    simulation = Simulation(settings, lambda p, step: 0.1 * step)
    assert {t.step for t in simulation.run().trials} == {6}  # 0.2, 0.4, 0.6


def test_what_was_running_when_a_sweep_broke_off_goes_on_first() -> None:
    simulation = Simulation(plan(), rising, 2)
    simulation.write(op="trial", trial=0, params={"x": 0.1})
    simulation.write(op="start", trial=0, until=1)
    after = Simulation(plan(), rising, 1, rows=simulation.rows)
    after.run(limit=len(simulation.rows) + 2)
    assert (after.slices[0].trial, after.slices[0].until) == (0, 1)


def test_a_population_gathers_near_the_best_setting() -> None:
    simulation = Simulation(
        plan(scheduler="pbt", scheduler_options={"interval": 2}, steps=40, trials=6),
        lambda p, step: -abs(p["x"] - 0.6) * 10,
        2,
    )
    sweep = simulation.run()
    first = [abs(t.first_params["x"] - 0.6) for t in sweep.trials]
    last = [abs(t.params["x"] - 0.6) for t in sweep.trials]
    assert sum(len(t.exploits) for t in sweep.trials) > 0
    assert max(last) < max(first) / 2
    assert reached(simulation) == {40: 6}


@pytest.mark.parametrize("concurrency", [1, 2, 3, 6])
def test_a_population_never_copies_a_worse_or_finished_trial(concurrency: int) -> None:
    simulation = Simulation(
        plan(scheduler="pbt", scheduler_options={"interval": 2}, steps=12, trials=6), rising, concurrency
    )
    simulation.run()
    state = replay(simulation.plan, ())
    for row in simulation.rows:
        if row["op"] == "exploit":
            trial, donor = state.trials[row["trial"]], state.trials[row["donor"]]
            assert donor.params["x"] > trial.params["x"]
            assert donor.state != "finished"
        state.apply(row)


def test_a_copy_of_a_trial_between_two_comparisons_goes_to_the_next_one() -> None:
    curve = [[2, {"val/score": 1.0}]]
    better = [[2, {"val/score": 2.0}]]
    told: list[dict[str, Any]] = [
        {"op": "trial", "trial": 0, "params": {"x": 0.1}},
        {"op": "end", "trial": 0, "state": "paused", "step": 2, "curve": curve},
        {"op": "trial", "trial": 1, "params": {"x": 0.2}},
        {"op": "end", "trial": 1, "state": "paused", "step": 3, "curve": better},  # stopped on the way to 4
        {"op": "start", "trial": 1, "until": 4},
    ]
    simulation = Simulation(plan(scheduler="pbt", scheduler_options={"interval": 2}, steps=12, trials=2), rising)
    for row in told:
        simulation.write(**row)
    assert next_slice(simulation.sweep) == Slice(0, until=4, donor=1)


def stopped(*ends: tuple[int, list[Any]]) -> Sweep:
    """A sweep that was stopped: the step that each trial stands at, and its curve."""
    found: list[dict[str, Any]] = []
    for number, (step, curve) in enumerate(ends):
        found += [{"op": "trial", "trial": number, "params": {"x": 0.5}}, {"op": "start", "trial": number, "until": 9}]
        found.append({"op": "end", "trial": number, "state": "paused", "step": step, "curve": curve})
    return replay(plan(), found)


def test_steps_after_the_last_evaluation_make_no_trial_better() -> None:
    sweep = stopped((3, [[3, {"val/score": 5.0}]]), (4, [[1, {"val/score": -9.0}]]), (7, [[3, {"val/score": 6.0}]]))
    assert [t.number for t in sweep.ranking()] == [2, 0, 1]
    assert [t.number for t in sweep.pareto()] == [2]
    best = sweep.best()
    assert best is not None
    assert "at step 3: " in summary(sweep, best)
    assert rows(sweep)[0].step == 3


def test_more_trials_may_be_asked_for_later() -> None:
    simulation = Simulation(plan(trials=3), rising)
    simulation.run()
    more = Simulation(plan(trials=9), rising, rows=simulation.rows)
    assert len(more.run().trials) == 9
