import io
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import synthetic_sweep as synthetic
from sisr.sweep import state
from sisr.sweep.report import drawing, plots, plots_compared
from sisr.sweep.report.importance import compared, importance
from sisr.sweep.space.axes import Axis, axes
from sisr.sweep.state import Sweep

RANDOM = np.random.default_rng(0)


def one_step(folder: str, points: list[tuple[dict[str, Any], float]], space: dict[str, Any]) -> Sweep:
    """A sweep of trials that were evaluated once, at step 100."""
    changes = {"space": space, "trials": len(points), "scheduler": "none", "steps": 100}
    writer = synthetic.Writer(Path(folder), **changes)
    for number, (params, score) in enumerate(points):
        writer.trial(number, params)
        writer.segment(number, 100, [(100, {"val/score": score})], "finished")
    return state.read(Path(folder))


def shares(sweep: Sweep) -> dict[str, float]:
    found = importance(sweep).shares
    assert math.isclose(sum(found.values()), 1)
    return found


def test_the_logarithmic_setting_that_decides_is_found_among_others() -> None:
    drawn = [synthetic.draw(RANDOM) for _ in range(24)]
    points = [(p, -((math.log10(p["learning_rate"]) + 4.5) ** 2)) for p in drawn]  # unlike on the linear scale
    found = shares(one_step("s", points, synthetic.SPACE))
    assert next(iter(found)) == "learning_rate"
    assert found["learning_rate"] > 0.7


@pytest.mark.parametrize("name", ["loss", "batch_size"])
def test_the_listed_setting_that_decides_is_found_among_others(name: str) -> None:
    drawn = [synthetic.draw(RANDOM) for _ in range(40)]
    points = [(p, (p[name] in ("vanilla", 16)) + 0.05 * RANDOM.normal()) for p in drawn]
    found = shares(one_step("s", points, synthetic.SPACE))
    assert next(iter(found)) == name
    assert found[name] > 0.7


@pytest.mark.slow
def test_importance_names_its_step_and_trials() -> None:
    synthetic.asha(Path("s"), 40)
    found = importance(state.read(Path("s")))
    assert (found.step, found.trials) == (300, 40)
    assert "at step 300, 40 trials" in found.caption
    assert "diverged count as the worst" in found.caption


def test_networks_that_nobody_has_trained_say_nothing_about_settings() -> None:
    writer = synthetic.Writer(Path("s"), trials=10)
    for number in range(10):
        params = synthetic.draw(RANDOM)
        writer.trial(number, params)
        untrained = (0, {"val/score": float(params["loss"] == "vanilla")})
        trained = (300, {"val/score": -abs(math.log10(params["learning_rate"]) + 3.5)})
        writer.segment(number, 300, [untrained] if number < 3 else [untrained, trained], "diverged")
    found = importance(state.read(Path("s")))
    assert (found.step, found.trials) == (300, 10)


def test_fewer_than_8_trials_have_no_importance() -> None:
    points = [(synthetic.draw(RANDOM), float(i)) for i in range(7)]
    found = importance(one_step("s", points, synthetic.SPACE))
    assert found.shares == {}
    assert found.caption == "too few trials: 7 of at least 8"


@pytest.mark.parametrize("same", ["score", "params"])
def test_trials_without_differences_have_no_importance(same: str) -> None:
    params = synthetic.draw(RANDOM)
    points = [(params, float(i)) if same == "params" else (synthetic.draw(RANDOM), 1.0) for i in range(9)]
    found = importance(one_step("s", points, synthetic.SPACE))
    assert found.shares == {}
    assert found.caption == "no differences between the 9 trials at step 100"


def test_importance_of_copying_trials_is_taken_before_the_first_copy() -> None:
    synthetic.pbt(Path("s"), 8)
    step, outcomes = compared(state.read(Path("s")))
    assert (step, len(outcomes)) == (300, 8)


def test_distances_on_an_axis_are_those_of_its_space() -> None:
    log = Axis("a", log=True, low=1e-4, high=1e-2)
    assert [log.place(value) for value in (1e-4, 1e-3, 1e-2)] == pytest.approx([0, 0.5, 1])
    assert log.place(0) is None
    assert [label for _, label in log.ticks()] == ["1e-4", "1e-3", "0.01"]
    down = Axis("a", low=0, high=4, down=True)
    assert [down.place(value) for value in (0, 1, 4)] == [1, 0.75, 0]
    listed = Axis("a", labels=("8", "16", "32"))
    assert [listed.place(value) for value in (8, 16, 32, 64)] == [0, 0.5, 1, None]
    assert Axis("a", low=3, high=3).place(3) == 0.5


def test_axes_follow_the_space() -> None:
    synthetic.asha(Path("s"), 12)
    found = {axis.name: axis for axis in axes(state.read(Path("s")))}
    assert set(found) == set(synthetic.SPACE)
    assert found["learning_rate"].log
    assert found["adversarial_weight"].log
    assert not found["beta1"].log
    assert found["batch_size"].labels == ("8", "16", "32")
    assert found["loss"].labels == ("relativistic", "vanilla")


def picture(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as opened:
        assert opened.format == "PNG"
        return np.asarray(opened.convert("RGB")).astype(int)


def amount(content: bytes, colour: str) -> int:
    """How many pixels have about this colour."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(picture(content) - wanted).max(axis=2) < 12).sum())


@pytest.mark.slow
@pytest.mark.parametrize("trials", [3, 24, 200])
def test_pictures_show_the_best_trial_and_those_that_diverged(trials: int) -> None:
    synthetic.asha(Path("s"), trials)
    sweep = state.read(Path("s"))
    assert any(trial.state == "diverged" for trial in sweep.trials) == (trials > 3)
    for content in (plots.draw_parallel(sweep), plots.draw_curves(sweep, {})):
        assert amount(content, drawing.GREEN) > 300
        assert (amount(content, drawing.ORANGE) > 20) == (trials > 3)


def test_pictures_are_the_same_each_time_and_leave_no_style_behind() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    synthetic.asha(Path("s"), 24)
    sweep = state.read(Path("s"))
    assert plots.draw_curves(sweep, {}) == plots.draw_curves(sweep, {})
    assert dict(matplotlib.rcParams) == before


def test_drawing_does_not_load_pyplot() -> None:
    program = (
        "import sys; from sisr.sweep.report.drawing import figure, png\n"
        "with figure(2, 2) as made: made.add_subplot(); png(made)\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"


def test_bars_are_as_many_as_settings() -> None:
    synthetic.asha(Path("s"), 24)
    found = importance(state.read(Path("s")))
    bars = picture(plots.draw_importance(found))
    blue = (np.abs(bars - [0, 0x72, 0xB2]).max(axis=2) < 12).any(axis=1)
    assert int((np.diff(blue.astype(int)) == 1).sum()) == len(found.shares) == 5


def test_the_front_of_psnr_and_likeness_needs_no_second_objective() -> None:
    synthetic.asha(Path("s"), 60)
    sweep = state.read(Path("s"))
    measures = plots_compared.pair(sweep)
    assert measures == (("val/psnr_y", "max"), ("val/perceptual", "min"))
    members = sweep.pareto(measures)
    far = [trial for trial in sweep.ranking() if trial.step == synthetic.STEPS]
    values = {t.number: (t.values["val/psnr_y"], -t.values["val/lpips"]) for t in far}
    beaten = {n for n, p in values.items() for q in values.values() if q != p and q[0] >= p[0] and q[1] >= p[1]}
    assert {trial.number for trial in members} == set(values) - beaten
    assert amount(plots_compared.draw_front(sweep, measures), drawing.GREEN) > 50


def test_without_two_measures_there_is_no_front() -> None:
    sweep = one_step("s", [({"a": 1.0}, 1.0)], {"a": {"uniform": [0, 1]}})
    assert plots_compared.pair(sweep) is None


def test_the_descent_of_a_copying_trial_leads_through_its_donors() -> None:
    writer = synthetic.Writer(Path("s"), trials=2, scheduler="pbt", scheduler_options={"interval": 100}, steps=300)
    for number in (0, 1):
        writer.trial(number, {"learning_rate": 10.0 ** -(number + 3)})
        writer.segment(number, 100, [(100, {"val/score": float(number)})])
    writer.row(op="exploit", trial=0, donor=1, step=100, params={"learning_rate": 2e-4})
    writer.segment(0, 300, [(300, {"val/score": 5.0})], "finished")
    sweep = state.read(Path("s"))
    assert plots_compared.lineage(sweep, sweep.trials[0]) == [(1, 0, 100), (0, 100, 300)]
    assert plots_compared.pieces_of(sweep.trials[0]) == [
        (0, 100, {"learning_rate": 1e-3}),
        (100, 300, {"learning_rate": 2e-4}),
    ]
    assert amount(plots_compared.draw_schedules(sweep), drawing.GREEN) > 300
