import math
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import synthetic_sweep as synthetic
from sisr.sweep import state
from sisr.sweep.report import drawing, plots, plots_compared
from sisr.sweep.report.importance import compared, importance
from sisr.sweep.report.svg import STYLE, svg
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


@pytest.mark.slow
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


def drawn(made: Figure) -> str:
    return svg(made, "title", alone=False)


def amount(made: Figure, colour: str) -> int:
    """How many things have this colour."""
    return len(re.findall(rf'(?:fill|stroke)="var\(--plot-{colour}\)"', drawn(made)))


@pytest.mark.slow
@pytest.mark.parametrize("trials", [3, 24])
def test_pictures_show_the_best_trial_and_those_that_diverged(trials: int) -> None:
    synthetic.asha(Path("s"), trials)
    sweep = state.read(Path("s"))
    assert any(trial.state == "diverged" for trial in sweep.trials) == (trials > 3)
    for made in (plots.draw_parallel(sweep), plots.draw_curves(sweep, {}, drawing.WIDE)):
        assert amount(made, "green")
        assert bool(amount(made, "orange")) == (trials > 3)


def test_pictures_are_the_same_each_time_and_leave_no_style_behind() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    synthetic.asha(Path("s"), 24)
    sweep = state.read(Path("s"))
    assert drawn(plots.draw_curves(sweep, {}, 5)) == drawn(plots.draw_curves(sweep, {}, 5))
    assert dict(matplotlib.rcParams) == before


def test_drawing_does_not_load_pyplot() -> None:
    program = (
        "import sys; from sisr.sweep.report.drawing import figure; from sisr.sweep.report.svg import svg\n"
        "with figure(2, 2) as made: made.add_subplot(); svg(made, 'title', alone=True)\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout == "False\n"


def test_bars_are_as_many_as_settings() -> None:
    synthetic.asha(Path("s"), 24)
    found = importance(state.read(Path("s")))
    assert amount(plots.draw_importance(found, drawing.WIDE), "blue") == len(found.shares) == 5


def test_the_front_of_psnr_and_likeness_needs_no_second_objective() -> None:
    synthetic.asha(Path("s"), 60)
    sweep = state.read(Path("s"))
    measures = plots_compared.pair(sweep)
    assert measures == (("val/psnr_y", "max"), ("val/lpips", "min")), "by its own name"
    members = sweep.pareto(measures)
    far = [trial for trial in sweep.ranking() if trial.step == synthetic.STEPS]
    values = {t.number: (t.values["val/psnr_y"], -t.values["val/lpips"]) for t in far}
    beaten = {n for n, p in values.items() for q in values.values() if q != p and q[0] >= p[0] and q[1] >= p[1]}
    assert {trial.number for trial in members} == set(values) - beaten
    fronts = plots_compared.fronts(sweep, measures)
    shown = drawn(plots_compared.draw_front(fronts, measures, drawing.WIDE))
    assert set(re.findall(r">#(\d+)<", shown)) == {str(trial.number) for front in fronts for trial in front.members}


def test_the_front_is_of_all_trials_at_the_last_step_that_all_reached_and_of_the_furthest_apart() -> None:
    writer = synthetic.Writer(Path("s"), trials=4)
    values = {0: (25.0, 0.30), 1: (26.0, 0.40), 2: (24.0, 0.35), 3: (25.5, None)}
    for number, (psnr, lpips) in values.items():
        writer.trial(number, {"learning_rate": 1e-3})
        found = {"val/psnr_y": psnr, "val/score": psnr} | ({"val/lpips": lpips} if lpips else {"val/swd": 9.0})
        writer.segment(number, 900, [(300, found)] + ([(900, found)] if number == 2 else []))
    sweep = state.read(Path("s"))
    measures = plots_compared.pair(sweep)
    assert measures
    early, late = plots_compared.fronts(sweep, measures)
    assert (early.step, [trial.number for trial in early.members]) == (300, [1, 0])
    assert (late.step, [trial.number for trial in late.members]) == (900, [2])
    said = plots_compared.about(sweep, [early, late])
    assert "3 trials at step 300" in said
    assert "1 were not measured there in both" in said, "by another distance"


def test_colours_are_names_and_styles_attributes_so_that_a_page_decides_and_its_policy_allows_them() -> None:
    synthetic.asha(Path("s"), 24)
    sweep = state.read(Path("s"))
    for made in (plots.draw_parallel(sweep), plots.draw_curves(sweep, {}, 5)):
        assert not re.search(r"#[0-9a-f]{6}\b|style=|<style|rgb\(", drawn(made))
    alone = svg(made, "title", alone=True)
    assert "prefers-color-scheme: dark" in alone
    known = set(re.findall(r"(--plot-\w+):", alone))
    assert set(re.findall(r"var\((--plot-\w+)\)", alone)) <= known


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_and_lines_stand_out_from_the_paper(scheme: str) -> None:
    """WCAG 2.2: 4.5 to 1 for words, 3 to 1 for what else must be seen."""
    text = (resources.files("sisr") / STYLE).read_text()
    light, dark = (dict(re.findall(r"--plot-(\w+): (#\w+)", part)) for part in text.split("@media"))
    colours = {**light, **(dark if scheme == "dark" else {})}
    paper = luminance(colours["paper"])
    for name, least in {"ink": 4.5, "orange": 3, "blue": 3, "green": 3, "grey": 3, "axis": 3}.items():
        lower, higher = sorted((paper, luminance(colours[name])))
        assert (higher + 0.05) / (lower + 0.05) >= least, name


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


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
    assert amount(plots_compared.draw_schedules(sweep, drawing.WIDE), "green")
