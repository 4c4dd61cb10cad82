"""From what somebody asked for to the plan of a sweep, without Ray."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from sisr.cluster import sweep
from sisr.cluster.execute import Tracking
from sisr.cluster.sweep import Wanted, plan_of
from sisr.cluster.sweep_files import write_best
from sisr.cluster.sweep_order import trial_run
from sisr.config import build, read_yaml
from sisr.errors import ConfigError
from sisr.recipes import pixelshuffle
from sisr.sweep import plan as plans
from sisr.sweep.plan import Plan
from sisr.sweep.state import Sweep, Trial, replay


def wanted(**changes: Any) -> Wanted:
    return Wanted(**{"recipe": "pixelshuffle", "steps": 900, **changes})


def test_asha_compares_at_a_ninth_and_a_third_of_the_steps_and_evaluates_there() -> None:
    plan, _ = plan_of(wanted())
    assert plan.rungs == (100, 300)
    assert plan.options["evaluate_every"] == 50


def test_rungs_are_multiples_of_a_given_interval_of_evaluation() -> None:
    plan, _ = plan_of(wanted(options={"evaluate_every": 40}))
    assert all(rung % 40 == 0 for rung in plan.rungs)
    assert len(plan.rungs) == 2


def test_pbt_compares_at_a_tenth_of_the_steps() -> None:
    plan, _ = plan_of(wanted(scheduler="pbt"))
    assert (plan.interval, plan.options["evaluate_every"], plan.rungs) == (90, 90, ())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scheduler": "pbt", "rungs": (100,)}, "--rungs has no effect with the scheduler pbt"),
        ({"interval": 100}, "--interval has no effect with the scheduler asha"),
        ({"rungs": (100, 250)}, "compared at step 250 but evaluated every 100"),
        ({"rungs": (900,)}, "rungs must rise and lie between 0 and steps 900"),
        ({"options": {"evaluate_evry": 3}}, "did you mean 'evaluate_every'"),
        ({"recipe": "pixelshufle"}, "did you mean 'pixelshuffle'"),
        ({"settings": ("hr_crop=7",)}, "hr_crop"),
    ],
)
def test_what_cant_work_is_said_before_anything_starts(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_of(wanted(**changes))


def test_a_trial_is_a_run_with_the_plans_settings_and_its_own() -> None:
    plan, _ = plan_of(wanted(settings=("hr_crop=32",), name="s"))
    run = trial_run(plan, Trial(7, {"learning_rate": 3e-4}, {"learning_rate": 3e-4}))
    assert run.name == "s-0007"
    assert (run.config["hr_crop"], run.config["steps"], run.config["learning_rate"]) == (32, 900, 3e-4)
    assert run.options.evaluate_every == plan.options["evaluate_every"]


def test_best_yaml_holds_the_settings_of_the_best_trial_without_the_length_of_a_trial(tmp_path: Path) -> None:
    plan, _ = plan_of(wanted(settings=("hr_crop=32",), name="s"))
    rows: list[dict[str, Any]] = [
        {"op": "trial", "trial": 0, "params": {"learning_rate": 3e-4, "beta1": 0.8}},
        {"op": "start", "trial": 0, "until": 900},
        {"op": "end", "trial": 0, "state": "finished", "step": 900, "curve": [[900, {"val/psnr_y": 30.0}]]},
    ]
    found: Sweep = replay(plan, rows)
    best = found.best()
    assert best is not None
    path = write_best(tmp_path, found, best)
    config = build(pixelshuffle.Config, read_yaml(path))
    assert (config.learning_rate, config.beta1, config.hr_crop) == (3e-4, 0.8, 32)
    assert config.steps == pixelshuffle.Config().steps


def test_a_sweep_of_the_same_name_but_another_plan_is_refused(tmp_path: Path) -> None:
    plan, space = plan_of(wanted(name="s", settings=("hr_crop=32",)))
    folder = tmp_path / "s"
    folder.mkdir()
    prepared, _, _ = sweep.prepare(sweep.Order(plan=plan, space=space, runs=tmp_path))
    plans.write(folder, prepared.model_copy(update={"seed": 1}), {})
    with pytest.raises(ConfigError, match=r"sweep s exists and differs: seed 1 -> 0\. Choose another --name"):
        sweep.execute(sweep.Order(plan=plan, space=space, runs=tmp_path), Tracking())


def test_a_damaged_plan_is_an_error_and_not_a_new_sweep(tmp_path: Path) -> None:
    plan, space = plan_of(wanted(name="s", settings=("hr_crop=32",)))
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / plans.FILE).write_text('{"sweep": {"name": "s"')
    with pytest.raises(Exception, match="can't be read"):
        sweep.execute(sweep.Order(plan=plan, space=space, runs=tmp_path), Tracking())


def test_a_sweeps_name_differs_where_its_plan_does_but_not_with_more_trials() -> None:
    plan: Plan = plan_of(wanted())[0]
    assert plan_of(wanted(trials=99))[0].hash == plan.hash
    assert plan_of(wanted(seed=1))[0].hash != plan.hash
    assert plan_of(wanted(space=("beta1=",)))[0].hash != plan.hash


def test_a_recipes_own_space_lies_beside_it(tmp_path: Path, repository: Path) -> None:
    text = (repository / "platform/sisr/recipes/pixelshuffle.py").read_text()
    (tmp_path / "mine.py").write_text(text)
    content = {
        "objective": "val/psnr_y",
        "trials": 2,
        "steps": 10,
        "space": {"learning_rate": {"choice": [1e-4, 1e-3]}},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    plan, _ = plan_of(Wanted(recipe=str(tmp_path / "mine.py")))
    assert (plan.recipe, plan.trials) == ("mine", 2)
    assert plan.recipe_source == text
