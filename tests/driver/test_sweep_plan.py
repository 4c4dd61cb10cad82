"""From what somebody asked for to the plan of a sweep, without Ray."""

import dataclasses
import shutil
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from PIL import Image
from sisr.pipelines import tune

from sisr.config.settings import build, read_yaml
from sisr.driver.run import execute
from sisr.driver.run.execute import Tracking
from sisr.driver.sweep import execute as sweep
from sisr.driver.sweep.execute import Wanted, plan_of
from sisr.driver.sweep.files import write_best
from sisr.driver.sweep.trial_run import trial_run
from sisr.errors import ConfigError, DataError
from sisr.recipes import pixelshuffle
from sisr.sweep import plan as plans
from sisr.sweep.plan import Plan
from sisr.sweep.state import Sweep, Trial, replay

# The settings of pixelshuffle's own space, but for one; and a grid of 30 points.
DROPPED = tuple(f"{name}=" for name in ("schedule", "warmup_steps", "beta1", "beta2", "zero_last"))
GRID = (
    "learning_rate=choice(1e-4, 2e-4, 3e-4, 4e-4, 5e-4)",
    "warmup_steps=choice(0, 1, 2, 3, 4, 5)",
    *(text for text in DROPPED if not text.startswith("warmup")),
)


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
        ({"rungs": (900,)}, "--rungs must rise and lie between 0 and steps 900, got 900"),
        ({"rungs": (0, 100)}, "--rungs must rise and lie between 0 and steps 900, got 0,100"),
        ({"rungs": (300, 100)}, "--rungs must rise"),
        ({"options": {"evaluate_every": 5000}}, "evaluate_every 5000 is no less than their steps 900"),
        ({"options": {"evaluate_every": "abc"}}, "--option: evaluate_every wants"),
        ({"scheduler": "pbt", "interval": 900}, "--interval 900 is no less than the 900 steps of a trial"),
        ({"search": "grid", "space": GRID}, "the grid has 30 combinations, but .* trials: 24; --trials 30 tries all"),
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
    path = write_best(tmp_path, found, best, "pixelshuffle")
    config = build(pixelshuffle.Config, read_yaml(path))
    assert (config.learning_rate, config.beta1, config.hr_crop) == (3e-4, 0.8, 32)
    assert config.steps == pixelshuffle.Config().steps


def test_a_grid_smaller_than_the_files_trials_plans_no_more_and_a_larger_one_may_be_begun() -> None:
    small = ("learning_rate=choice(1e-4, 2e-4)", *DROPPED)
    assert plan_of(wanted(search="grid", space=small))[0].trials == 2
    assert plan_of(wanted(search="grid", space=small, trials=99))[0].trials == 2
    assert plan_of(wanted(search="grid", space=GRID, trials=7))[0].trials == 7


MINE = {"objective": "val/psnr_y", "trials": 2, "steps": 10, "space": {"beta1": {"choice": [0.5, 0.9]}}}


def ordered(tmp_path: Path, workers: int = 1, **changes: Any) -> sweep.Order:
    plan, space = plan_of(wanted(**{"name": "s", "settings": ("hr_crop=32",), **changes}))
    return sweep.Order(plan=plan, space=space, runs=tmp_path, workers=workers)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": ["val/score"], "options": {"perceptual": "none"}}, "no trial would measure val/score: percept"),
        ({"objective": ["val/lpips"], "options": {"perceptual": "swd"}}, r"val/lpips: .* gives val/psnr_y, val/ssim_y"),
        ({"objective": ["val/psnr_y", "val/ssim_y"], "options": {"perceptual": "none"}}, "measure val/score"),
    ],
)
def test_what_no_trial_would_measure_is_no_objective(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sweep.prepare(ordered(tmp_path, **changes))


@pytest.mark.parametrize("objective", [["val/score"], ["val/perceptual"], ["val/psnr_y", "val/swd"]])
def test_what_every_trial_measures_is_an_objective(tmp_path: Path, objective: list[str]) -> None:
    assert sweep.prepare(ordered(tmp_path, objective=objective, options={"perceptual": "swd"}))


@pytest.mark.parametrize(
    ("space", "size"),
    [
        ("batch_size=choice(4, 5)", 5),
        ("batch_size=qrandint(3, 9, 3)", 3),
        ("batch_size=qrandint(6, 18, 3)", 9),  # between the corners
    ],
)
def test_a_batch_size_that_workers_cant_share_is_refused_though_only_swept(
    tmp_path: Path, space: str, size: int
) -> None:
    with pytest.raises(ConfigError, match=f"batch_size {size} can't be split equally among 2 workers"):
        sweep.prepare(ordered(tmp_path, space=(space,), workers=2))


def test_only_batch_sizes_that_trials_have_must_be_shared(tmp_path: Path) -> None:
    assert pixelshuffle.Config().batch_size % 3
    assert sweep.prepare(ordered(tmp_path, space=("batch_size=choice(3, 6)",), workers=3))


def test_a_crop_larger_than_all_images_is_refused_though_only_swept(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2048 x 2048"):
        sweep.prepare(ordered(tmp_path, settings=(), space=("hr_crop=choice(96, 2048)",)))


def test_a_copy_keeps_what_decides_the_networks_shapes() -> None:
    space = ("num_features=choice(8, 16, 24)", "num_blocks=randint(1, 9)", "learning_rate=loguniform(1e-5, 1e-3)")
    _, found = plan_of(wanted(scheduler="pbt", search="random", space=(*space, *DROPPED)))
    assert found.kept == {"num_features", "num_blocks"}
    params = {"num_features": 16, "num_blocks": 4, "learning_rate": 1e-4}
    copies = [found.explore(params, Random(seed)) for seed in range(20)]
    assert {(copy["num_features"], copy["num_blocks"]) for copy in copies} == {(16, 4)}
    assert 1e-4 not in {copy["learning_rate"] for copy in copies}


def taken_up(order: sweep.Order) -> None:
    """Leave what a sweep leaves that was killed just after it had begun."""
    plan, folder, data = sweep.prepare(order)
    folder.path.mkdir(exist_ok=True)
    folder.record_files(data.hashes)
    plans.write(folder.path, plan, {})


def test_other_settings_are_named_one_by_one(tmp_path: Path) -> None:
    taken_up(ordered(tmp_path))
    with pytest.raises(ConfigError) as caught:
        sweep.execute(ordered(tmp_path, settings=("hr_crop=64",), space=("beta2=",)), Tracking())
    assert "differs: fixed.hr_crop 32 -> 64; space.beta2 {'choice': [0.99, 0.999]} -> None. Choose" in str(caught.value)
    assert f"or remove {tmp_path / 's'} to start anew" in str(caught.value)


def test_a_recipe_file_that_has_changed_is_not_printed(tmp_path: Path, repository: Path) -> None:
    text = (repository / "platform/sisr/recipes/pixelshuffle.py").read_text()
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(MINE))
    (tmp_path / "mine.py").write_text(text)
    asked: dict[str, Any] = {"recipe": str(tmp_path / "mine.py"), "steps": None}
    taken_up(ordered(tmp_path, **asked))
    (tmp_path / "mine.py").write_text(text + "# changed\n")
    with pytest.raises(ConfigError, match=r"differs: recipe file changed\. Choose"):
        sweep.execute(ordered(tmp_path, **asked), Tracking())


def test_images_that_have_changed_are_named_as_train_names_them(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(6):
        Image.effect_noise((96, 96), 10 + number).convert("RGB").save(images / f"{number}.png")
    taken_up(ordered(tmp_path, data=str(images)))
    Image.effect_noise((96, 96), 99).convert("RGB").save(images / "new.png")
    with pytest.raises(DataError, match=r"sweep s exists and differs: images of .*: \+1 -0 ~0 files, e\.g\. new\.png"):
        sweep.execute(ordered(tmp_path, data=str(images)), Tracking())


def test_a_recipe_from_a_file_is_found_again_to_be_trained_with_the_best_settings_without_a_word_before_json(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(repository / "platform/sisr/recipes/pixelshuffle.py", "mine.py")
    tiny = ("batch_size=2", "hr_crop=16", "num_features=8", "num_hr_features=4", "num_blocks=1")
    Path("mine.yaml").write_text(yaml.safe_dump(MINE))
    order = ordered(tmp_path, recipe="mine.py", settings=tiny)
    order = dataclasses.replace(order, recipe="mine.py")
    rows: list[dict[str, Any]] = [
        {"op": "trial", "trial": 0, "params": {"beta1": 0.5}},
        {"op": "start", "trial": 0, "until": 900},
        {"op": "end", "trial": 0, "state": "finished", "step": 900, "curve": [[900, {"val/psnr_y": 30.0}]]},
    ]
    found = replay(order.plan, rows)
    (tmp_path / "s").mkdir()
    best = write_best(tmp_path / "s", found, found.trials[0], order.recipe_argument)
    assert "sisr train mine.py --config best.yaml" in best.read_text()
    monkeypatch.setattr(execute, "execute", lambda asked, *_: execute.prepare(asked)[0].model_dump())
    run = tune._train_best(found, order, Tracking(), steps=2)
    assert (run["config"]["beta1"], run["config"]["hr_crop"], run["config"]["steps"]) == (0.5, 16, 2)
    assert run["recipe_source"] == Path("mine.py").read_text()
    assert capsys.readouterr().out == ""
    with open("mine.py", "a") as file:
        file.write("# changed\n")
    with pytest.raises(ConfigError, match=r"mine\.py has changed since the sweep began"):
        tune._train_best(found, order, Tracking(), steps=2)


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
