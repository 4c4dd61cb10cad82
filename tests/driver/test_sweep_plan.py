"""From what somebody asked for to the plan of a sweep, without Ray."""

import json
import shlex
import shutil
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from PIL import Image

from sisr.config.settings import build, parse_overrides, read_yaml
from sisr.disk.run_folder import RunFolder
from sisr.driver.run import order
from sisr.driver.run.execute import Tracking
from sisr.driver.sweep.execute import check_experiment, take_up
from sisr.driver.sweep.files import train_command, write_best
from sisr.driver.sweep.full_run import after_sweep, best_order, check_full, full_order, full_size, gained
from sisr.driver.sweep.host import trial_run
from sisr.driver.sweep.planning import FREE, changes, plan_of, prepare
from sisr.errors import CheckpointError, ConfigError, DataError
from sisr.recipes import pixelshuffle
from sisr.storage.address import runs_folder
from sisr.sweep import plan as plans
from sisr.sweep.ledger import Ledger
from sisr.sweep.plan import Plan
from sisr.sweep.space.space import SearchSpace
from sisr.sweep.state import LEDGER, Sweep, Trial, replay
from sisr.tracking import address
from sisr.tracking.address import Address
from sisr.training.dataset import TrainingData
from sisr.training.options import Options

# The settings of pixelshuffle's own space, but for one; and a grid of 30 points.
DROPPED = tuple(f"{name}=" for name in ("schedule", "warmup_steps", "beta1", "beta2", "zero_last"))
GRID = (
    "learning_rate=choice(1e-4, 2e-4, 3e-4, 4e-4, 5e-4)",
    "warmup_steps=choice(0, 1, 2, 3, 4, 5)",
    *(text for text in DROPPED if not text.startswith("warmup")),
)


OF_FILE = ("trials", "steps", "search", "scheduler", "objective")


def planned(**asked: Any) -> tuple[Plan, SearchSpace]:
    """Plan a sweep of pixelshuffle with 900 steps, or of what is asked."""
    asked = {"recipe": "pixelshuffle", "steps": 900, **asked}
    changes = {name: asked.pop(name) for name in OF_FILE if name in asked}
    return plan_of(asked.pop("recipe"), changes=changes, **asked)


def test_asha_compares_at_a_ninth_and_a_third_of_the_steps_and_evaluates_there() -> None:
    plan, _ = planned()
    assert plan.scheduler_options == {"rungs": [100, 300]}
    assert plan.options["evaluate_every"] == 50


@pytest.mark.parametrize(("steps", "rungs", "every"), [(60, [10, 20], 10), (170, [20, 60], 10), (18, [2, 6], 1)])
def test_short_trials_are_not_all_validation(steps: int, rungs: list[int], every: int) -> None:
    plan, _ = planned(steps=steps)
    assert (plan.scheduler_options, plan.options["evaluate_every"]) == ({"rungs": rungs}, every)


def searched(*trials: tuple[dict[str, Any], float]) -> Sweep:
    """A finished sweep of trials with these settings and values of PSNR-Y at step 900."""
    plan, _ = planned()
    found = [
        Trial(number, params, params, "finished", curve=[(900, {"val/psnr_y": value})])
        for number, (params, value) in enumerate(trials)
    ]
    return Sweep(plan, found)


@pytest.mark.parametrize(
    ("best", "said"),
    [
        (28.31, "at step 900: PSNR-Y +0.310 dB against the recipe's own settings"),
        (28.01, "at step 900: PSNR-Y +0.010 dB against the recipe's own settings, no more than chance"),
        (27.00, "no trial is better than the one with the recipe's own settings"),
    ],
)
def test_what_a_search_has_gained_is_said_beside_what_chance_gains(best: float, said: str) -> None:
    own = {"beta1": 0.9}
    assert gained(searched((own, 28.0), ({"beta1": 0.8}, best)), own).startswith(said)
    assert gained(searched(({"beta1": 0.8}, best)), own) == ""


def test_the_command_of_a_full_run_names_the_options_that_the_trials_had() -> None:
    given = {"precision": "fp32", "validation_side": 48, "seed": 3, "metrics": "niqe,dists", "log_every": 20}
    plan, _ = planned(options=given)
    words = shlex.split(train_command(plan, Path("runs/s"), "pixelshuffle"))
    texts = [after for word, after in pairwise(words) if word == "--option"]
    options = build(Options, parse_overrides(texts, "--option"))
    assert options == full_order(plan, Path("runs/s"), "pixelshuffle", 1, {}).options
    assert len(texts) == len(given) - 1, "a default is not repeated"


def test_what_follows_a_sweep_in_object_storage_begins_with_bringing_it_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SISR_CACHE", str(tmp_path))
    plan, _ = planned()
    steps = dict(after_sweep(plan, runs_folder("s3://bucket/runs") / "s", "pixelshuffle"))
    assert steps["bring it home"] == "sisr pull s3://bucket/runs/s s"
    assert steps["pictures and curves"] == "s/results/index.html"
    assert "--config s/best.yaml" in steps["train with the best"]
    here = dict(after_sweep(plan, tmp_path / "s", "pixelshuffle"))
    assert list(here) == ["pictures and curves", "train with the best"]


def test_rungs_are_multiples_of_a_given_interval_of_evaluation() -> None:
    plan, _ = planned(options={"evaluate_every": 40})
    assert plan.scheduler_options == {"rungs": [80, 320]}


def test_the_length_of_a_trial_is_one_of_the_fixed_settings_by_which_a_begun_sweep_is_found_again() -> None:
    plan, _ = plan_of("pixelshuffle")
    assert plan.fixed["steps"] == plan.steps


def test_pbt_compares_at_a_tenth_of_the_steps() -> None:
    plan, _ = planned(scheduler="pbt")
    assert (plan.scheduler_options, plan.options["evaluate_every"]) == ({"interval": 90}, 90)


def options(scheduler: str = "asha", **options: Any) -> dict[str, Any]:
    """Ask for a scheduler with these options."""
    return {"scheduler": scheduler, "scheduler_options": options}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (options(rungs=(100,), scheduler="pbt"), "scheduler pbt: no setting 'rungs'; all settings: interval, quantile"),
        (options(interval=100), "scheduler asha: no setting 'interval'; all settings: rungs, eta"),
        (options(rungs=(100, 250)), "compared at step 250 but evaluated every 100"),
        (options(rungs=(900,)), "rungs must rise and lie between 0 and steps 900, got 900"),
        (options(rungs=(0, 100)), "rungs must rise and lie between 0 and steps 900, got 0,100"),
        (options(rungs=(300, 100)), "rungs must rise"),
        ({"options": {"evaluate_every": 5000}}, "evaluate_every 5000 is no less than their steps 900"),
        ({"options": {"evaluate_every": "abc"}}, "--option: evaluate_every wants"),
        (options(eta=1), "eta wants"),
        (options(interval=900, scheduler="pbt"), "interval 900 is no less than the 900 steps of a trial"),
        ({"search": "grid", "space": GRID}, "the grid has 30 combinations, but .* trials: 24; --trials 30 tries all"),
        ({"options": {"evaluate_evry": 3}}, "did you mean 'evaluate_every'"),
        ({"recipe": "pixelshufle"}, "did you mean 'pixelshuffle'"),
        ({"settings": ("hr_crop=7",)}, "hr_crop"),
    ],
)
def test_what_cant_work_is_said_before_anything_starts(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        planned(**changes)


def test_a_trial_is_a_run_with_the_plans_settings_and_its_own() -> None:
    plan, _ = planned(settings=("hr_crop=32",), name="s")
    run = trial_run(plan, Trial(7, {"learning_rate": 3e-4}, {"learning_rate": 3e-4}))
    assert run.name == "s-0007"
    assert (run.config["hr_crop"], run.config["steps"], run.config["learning_rate"]) == (32, 900, 3e-4)
    assert run.options.evaluate_every == plan.options["evaluate_every"]


def test_best_yaml_holds_the_settings_of_the_best_trial_without_the_length_of_a_trial(tmp_path: Path) -> None:
    plan, _ = planned(settings=("hr_crop=32",), name="s")
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


def test_best_yaml_trains_the_recipes_full_size_on_the_sweeps_images_and_keeps_apart_what_made_trials_cheap(
    tmp_path: Path,
) -> None:
    plan, _ = planned(settings=("turn=true",), data="my photographs", name="s")
    assert plan.cheap == ("hr_crop",)
    rows: list[dict[str, Any]] = [
        {"op": "trial", "trial": 0, "params": {"learning_rate": 3e-4}},
        {"op": "end", "trial": 0, "state": "finished", "step": 900, "curve": [[900, {"val/psnr_y": 30.0}]]},
    ]
    found = replay(plan, rows)
    path = write_best(tmp_path, found, found.trials[0], "pixelshuffle")
    config = build(pixelshuffle.Config, read_yaml(path))
    assert (config.learning_rate, config.turn, config.hr_crop) == (3e-4, True, pixelshuffle.Config().hr_crop)
    assert f"# hr_crop: {plan.fixed['hr_crop']}" in path.read_text()
    assert "# sisr train pixelshuffle --config runs/s/best.yaml --data 'my photographs'" in path.read_text()
    assert full_size(plan) == "unlike the trials: steps 100000 instead of 900, hr_crop 512 instead of 96"


def test_a_plan_of_before_cheap_settings_stood_apart_is_the_same_sweep_with_all_of_them_kept() -> None:
    plan, _ = planned(name="s")
    assert plan.model_copy(update={"cheap": ()}).hash(FREE) == plan.hash(FREE)
    assert changes(plan.model_copy(update={"cheap": ()}), plan) == []


def test_a_full_run_that_could_not_follow_is_refused_before_the_sweep(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for i in range(8):
        Image.new("RGB", (120, 120), (i, 2 * i, 0)).save(tmp_path / "images" / f"{i}.png")
    plan, space = planned(name="s", data=str(tmp_path / "images"))
    with pytest.raises(DataError, match=r"--then-train, at the recipe's full size: .* by --set hr_crop=96"):
        check_full(plan, space, tmp_path, "pixelshuffle", 1, None)
    plan, space = planned(name="s", data=str(tmp_path / "images"), settings=("hr_crop=96",))
    check_full(plan, space, tmp_path, "pixelshuffle", 1, None)


def test_a_grid_smaller_than_the_files_trials_plans_no_more_and_a_larger_one_may_be_begun() -> None:
    small = ("learning_rate=choice(1e-4, 2e-4)", *DROPPED)
    assert planned(search="grid", space=small)[0].trials == 2
    assert planned(search="grid", space=small, trials=99)[0].trials == 2
    assert planned(search="grid", space=GRID, trials=7)[0].trials == 7


MINE = {"objective": "val/psnr_y", "trials": 2, "steps": 10, "space": {"beta1": {"choice": [0.5, 0.9]}}}


def prepared(runs: Path, workers: int = 1, **asked: Any) -> tuple[Plan, RunFolder, TrainingData]:
    """Plan a sweep named s of crops of 32 px, and prepare it."""
    return prepare(*planned(**{"name": "s", "settings": ("hr_crop=32",), **asked}), runs, workers)


def begun(runs: Path, **asked: Any) -> Plan:
    """Leave what a sweep leaves that was killed just after it had begun."""
    plan, folder, data = prepared(runs, **asked)
    folder.path.mkdir(exist_ok=True)
    take_up(plan, folder, data, allow_changes=False)
    return plan


def taken_up(runs: Path, allow_changes: bool = False, **asked: Any) -> Plan:
    """Begin a sweep, or go on with it, and return its plan as it is recorded now."""
    plan, folder, data = prepared(runs, **asked)
    take_up(plan, folder, data, allow_changes)
    found = plans.read(folder.path)
    assert found is not None
    return found


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
        prepared(tmp_path, **changes)


@pytest.mark.parametrize("objective", [["val/score"], ["val/perceptual"], ["val/psnr_y", "val/swd"]])
def test_what_every_trial_measures_is_an_objective(tmp_path: Path, objective: list[str]) -> None:
    assert prepared(tmp_path, objective=objective, options={"perceptual": "swd"})


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
        prepared(tmp_path, space=(space,), workers=2)


def test_only_batch_sizes_that_trials_have_must_be_shared(tmp_path: Path) -> None:
    assert pixelshuffle.Config().batch_size % 3
    assert prepared(tmp_path, space=("batch_size=choice(3, 6)",), workers=3)


def test_a_crop_larger_than_all_images_is_refused_though_only_swept(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2048x2048"):
        prepared(tmp_path, settings=(), space=("hr_crop=choice(96, 2048)",))


def test_a_copy_keeps_what_decides_the_networks_shapes() -> None:
    space = ("num_features=choice(8, 16, 24)", "num_blocks=randint(1, 9)", "learning_rate=loguniform(1e-5, 1e-3)")
    _, found = planned(scheduler="pbt", search="random", space=(*space, *DROPPED))
    assert found.kept == {"num_features", "num_blocks"}
    params = {"num_features": 16, "num_blocks": 4, "learning_rate": 1e-4}
    copies = [found.explore(params, Random(seed)) for seed in range(20)]
    assert {(copy["num_features"], copy["num_blocks"]) for copy in copies} == {(16, 4)}
    assert 1e-4 not in {copy["learning_rate"] for copy in copies}


def test_other_settings_are_named_one_by_one(tmp_path: Path) -> None:
    begun(tmp_path)
    with pytest.raises(ConfigError) as caught:
        taken_up(tmp_path, settings=("hr_crop=64",), space=("beta2=",))
    message = "differs: fixed.hr_crop 32 -> 64; space.beta2 {'choice': [0.99, 0.999]} -> None. Choose another --name"
    assert message in str(caught.value)
    assert f"or remove {tmp_path / 's'} to start anew" in str(caught.value)


def test_other_settings_are_taken_up_where_changes_are_allowed_and_their_history_is_kept(tmp_path: Path) -> None:
    begun(tmp_path)
    assert taken_up(tmp_path, allow_changes=True, settings=("hr_crop=64",)).fixed["hr_crop"] == 64
    taken_up(tmp_path, allow_changes=True, settings=("hr_crop=96",))
    history = json.loads((tmp_path / "s" / plans.FILE).read_text())["changed"]
    assert history == ["fixed.hr_crop 32 -> 64", "fixed.hr_crop 64 -> 96"]


def test_a_sweep_without_a_name_that_an_earlier_version_began_is_found_again(tmp_path: Path) -> None:
    plan = prepared(tmp_path, name="")[0]
    before = tmp_path / f"pixelshuffle-sweep-{plan.hash_1}"
    assert before.name != plan.name
    before.mkdir()
    plans.write(before, plan, {})
    assert prepared(tmp_path, name="")[0].name == before.name


@pytest.mark.parametrize("gone", [plans.FILE, LEDGER])
def test_trials_whose_settings_nobody_knows_any_more_are_not_taken_up(tmp_path: Path, gone: str) -> None:
    begun(tmp_path)
    Ledger(tmp_path / "s").close()
    (tmp_path / "s/trials/0000/checkpoints/step_000000005").mkdir(parents=True)
    taken_up(tmp_path)
    (tmp_path / "s" / gone).unlink()
    with pytest.raises(CheckpointError, match="restore the file that is gone"):
        taken_up(tmp_path, settings=("hr_crop=64",), allow_changes=True)


def test_another_recipe_is_refused_though_changes_are_allowed(tmp_path: Path) -> None:
    begun(tmp_path, space=("learning_rate=choice(1e-4, 1e-3)", *DROPPED))
    with pytest.raises(ConfigError, match="recipe pixelshuffle -> srresnet"):
        taken_up(tmp_path, allow_changes=True, recipe="srresnet")


@pytest.mark.parametrize("option", ["log_every", "keep_checkpoints", "threads", "sample_rows"])
def test_how_closely_trials_are_watched_may_change(tmp_path: Path, option: str) -> None:
    begun(tmp_path)
    assert taken_up(tmp_path, options={option: 7}).options[option] == 7


def test_the_distance_that_trials_are_compared_by_may_not_change(tmp_path: Path) -> None:
    begun(tmp_path, options={"perceptual": "swd"})
    with pytest.raises(ConfigError, match=r"options\.perceptual swd -> none"):
        taken_up(tmp_path, objective=["val/psnr_y"], options={"perceptual": "none"})


def test_a_recipe_file_that_has_changed_is_not_printed(tmp_path: Path, repository: Path) -> None:
    text = (repository / "platform/sisr/recipes/pixelshuffle.py").read_text()
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(MINE))
    (tmp_path / "mine.py").write_text(text)
    begun(tmp_path, recipe=str(tmp_path / "mine.py"), steps=None)
    (tmp_path / "mine.py").write_text(text + "# changed\n")
    with pytest.raises(ConfigError, match=r"differs: recipe file changed\. Choose"):
        taken_up(tmp_path, recipe=str(tmp_path / "mine.py"), steps=None)


def test_more_trials_stay_in_their_sweeps_experiment_and_no_other_is_taken(tmp_path: Path) -> None:
    plan = begun(tmp_path)
    folder = RunFolder(tmp_path / "s")
    address.write(folder.path, Address(address.default_uri(tmp_path), "mine", run_id="1"))
    assert address.decide(folder.path, None, Tracking().experiment).experiment == "mine"
    check_experiment(plan, folder, Tracking())
    check_experiment(plan, folder, Tracking(experiment="mine"))
    with pytest.raises(ConfigError, match=r"recorded in MLflow experiment 'mine', .* leave out --experiment other"):
        check_experiment(plan, folder, Tracking(experiment="other"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(6):
        Image.effect_noise((96, 96), 10 + number).convert("RGB").save(folder / f"{number}.png")
    return folder


def test_images_that_have_changed_are_named_as_train_names_them(tmp_path: Path, images: Path) -> None:
    begun(tmp_path, data=str(images))
    Image.effect_noise((96, 96), 99).convert("RGB").save(images / "new.png")
    with pytest.raises(DataError, match=r"sweep s exists and differs: images of .*: \+1 -0 ~0 files, e\.g\. new\.png"):
        taken_up(tmp_path, data=str(images))


def test_what_upscale_has_written_among_the_images_meanwhile_is_to_be_moved_away(tmp_path: Path, images: Path) -> None:
    begun(tmp_path, data=str(images))
    shutil.copy(images / "0.png", images / "1_x4_compare.png")
    with pytest.raises(
        DataError, match=r"1_x4_compare\.png is called as `sisr upscale` calls .*: move it away\. Choose"
    ):
        taken_up(tmp_path, data=str(images))


def test_the_same_images_in_another_place_are_the_same_sweep(tmp_path: Path, images: Path) -> None:
    begun(tmp_path, data=str(images))
    images.rename(tmp_path / "moved")
    assert taken_up(tmp_path, data=str(tmp_path / "moved")).data == str(tmp_path / "moved")


def test_a_sweep_without_a_name_is_found_again_though_its_images_have_moved(tmp_path: Path, images: Path) -> None:
    name = prepared(tmp_path, data=str(images), name="")[0].name
    images.rename(tmp_path / "moved")
    assert prepared(tmp_path, data=str(tmp_path / "moved"), name="", options={"log_every": 7})[0].name == name


def test_a_recipe_from_a_file_is_found_again_to_be_trained_with_the_best_settings_without_a_word_before_json(
    tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(repository / "platform/sisr/recipes/pixelshuffle.py", "mine.py")
    tiny = ("batch_size=2", "hr_crop=16", "num_features=8", "num_hr_features=4", "num_blocks=1")
    Path("mine.yaml").write_text(yaml.safe_dump(MINE))
    plan = prepared(tmp_path, recipe="mine.py", settings=tiny)[0]
    rows: list[dict[str, Any]] = [
        {"op": "trial", "trial": 0, "params": {"beta1": 0.5}},
        {"op": "start", "trial": 0, "until": 900},
        {"op": "end", "trial": 0, "state": "finished", "step": 900, "curve": [[900, {"val/psnr_y": 30.0}]]},
    ]
    found = replay(plan, rows)
    (tmp_path / "s").mkdir()
    best = write_best(tmp_path / "s", found, found.trials[0], "mine.py")
    assert "sisr train mine.py --config runs/s/best.yaml" in best.read_text()
    run = order.prepare(best_order(plan, tmp_path / "s", "mine.py", workers=1, steps=2))[0]
    assert (run.config["beta1"], run.config["hr_crop"], run.config["steps"]) == (0.5, 16, 2)
    assert run.recipe_source == Path("mine.py").read_text()
    assert capsys.readouterr().out == ""
    with open("mine.py", "a") as file:
        file.write("# changed\n")
    with pytest.raises(ConfigError, match=r"mine\.py has changed since the sweep began"):
        best_order(plan, tmp_path / "s", "mine.py", workers=1, steps=2)


@pytest.mark.parametrize("content", ['{"sweep": {"name": "s"', "[1]", '{"sweep": [1]}', '{"sweep": {"format": 9}}'])
def test_a_damaged_plan_is_an_error_and_not_a_new_sweep(tmp_path: Path, content: str) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / plans.FILE).write_text(content)
    with pytest.raises(CheckpointError, match="can't be read"):
        taken_up(tmp_path)


def test_a_sweeps_name_differs_where_its_plan_does_but_not_with_more_trials() -> None:
    plan: Plan = planned()[0]
    assert planned(trials=99)[0].hash(FREE) == plan.hash(FREE)
    assert planned(seed=1)[0].hash(FREE) != plan.hash(FREE)
    assert planned(space=("beta1=",))[0].hash(FREE) != plan.hash(FREE)


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
    plan, _ = plan_of(str(tmp_path / "mine.py"))
    assert (plan.recipe, plan.trials) == ("mine", 2)
    assert plan.recipe_source == text


def test_a_search_that_there_is_not_is_named_with_its_line_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(
        "trials: 3\nsearch: tpee\nspace: {learning_rate: {choice: [1e-4, 1e-3]}}\nobjective: val/psnr_y\nsteps: 900\n"
    )
    with pytest.raises(ConfigError, match=r"s\.yaml:2: no search 'tpee'"):
        plan_of("pixelshuffle", search_space=file)
    with pytest.raises(ConfigError, match=r"^no search 'other'"):
        plan_of("pixelshuffle", search_space=file, changes={"search": "other"})
