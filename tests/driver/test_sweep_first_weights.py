"""A sweep's trials begin with given weights, of the judge too; so does the full run with the best of them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sisr import recipes
from sisr.disk.run_folder import RunFolder
from sisr.driver.run.first_weights import FirstWeights, adopted
from sisr.driver.sweep import check, files
from sisr.driver.sweep.full_run import full_order
from sisr.driver.sweep.host import trial_run
from sisr.driver.sweep.planning import plan_of
from sisr.errors import CheckpointError, ConfigError
from sisr.models.files import save_model
from sisr.sweep.plan import Plan
from sisr.sweep.space.space import SearchSpace
from sisr.sweep.state import Trial
from sisr.training.origin import start_from
from sisr.training.run import record

SMALL = ("network=Compact", "network_options={num_feat: 4, num_conv: 1}", "perceptual=none", "discriminator_features=2")
LENGTH = {"trials": 2, "steps": 90}


@pytest.fixture(autouse=True)
def judge_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the weights of a judge of 2 features, all of them 0.25."""
    monkeypatch.chdir(tmp_path)
    recipe = build_recipe()
    state = {name: torch.full_like(value, 0.25) for name, value in recipe.discriminator.state_dict().items()}
    save_file(state, tmp_path / "judge.safetensors")
    return tmp_path / "judge.safetensors"


def build_recipe(**changes: Any) -> Any:
    module = recipes.load("finetune")
    values = {"network": "Compact", "network_options": {"num_feat": 4, "num_conv": 1}, "perceptual": "none"}
    return module.Recipe(module.Config(**values, **{"discriminator_features": 2, **changes}))


def planned(settings: tuple[str, ...] = SMALL, space: tuple[str, ...] = ()) -> tuple[Plan, SearchSpace]:
    first = FirstWeights(judge="judge.safetensors")
    return plan_of("finetune", settings=settings, space=space, changes=LENGTH, first=first)


@pytest.mark.slow
def test_the_judge_of_a_trial_and_of_the_full_run_begins_with_the_weights_given() -> None:
    plan, space = planned()
    plan = plan.model_copy(update=check.first_weights(plan, space, Path("runs")))
    sweep, trial = RunFolder(Path("runs/sweep")), RunFolder(Path("runs/sweep/trials/0000"))
    for folder in (sweep, trial):
        folder.path.mkdir(parents=True)
    check.place_first_weights(plan, space, sweep, Path("runs"))
    files.hand_on_init(sweep, trial)
    recipe = build_recipe()
    start_from(trial_run(plan, Trial(0, space.settled(space.first()), {})), trial, recipe, recipe.generator)
    assert {value for tensor in recipe.discriminator.state_dict().values() for value in tensor.flatten().tolist()} == {
        0.25
    }
    assert full_order(plan, sweep.path, "finetune", 1, {}).first == FirstWeights(judge=str(sweep.init_judge))
    assert f" --init-judge {sweep.init_judge}" in files.train_command(plan, sweep.path, "finetune")


@pytest.mark.slow
def test_another_judge_is_another_sweep_and_no_judge_is_the_sweep_it_was() -> None:
    plan, space = planned()
    with_judge = plan.model_copy(update=check.first_weights(plan, space, Path("runs")))
    assert with_judge.hash(()) != plan.hash(())
    assert plan.model_copy(update={"init_judge": None}).hash(()) == plan.hash(())


@pytest.mark.slow
def test_a_searched_setting_that_changes_the_shape_of_the_judge_is_refused() -> None:
    plan, space = planned(SMALL[:-1], space=("discriminator_features=choice(2, 4)",))
    with pytest.raises(ConfigError, match="discriminator_features decides the shape of a network that begins with"):
        check.first_weights(plan, space, Path("runs"))


@pytest.mark.slow
def test_a_full_run_has_the_recipe_s_own_judge_unless_the_trials_judge_began_with_weights() -> None:
    save_file(build_recipe().generator.state_dict(), "generator.safetensors")
    of_file = tuple(setting for setting in SMALL if not setting.startswith("discriminator_features"))
    generator = plan_of(
        "finetune", settings=of_file, changes=LENGTH, first=FirstWeights(generator="generator.safetensors")
    )
    assert "discriminator_features" in check.dispensable(*generator)
    assert "discriminator_features" not in check.dispensable(*planned(SMALL[:-1]))


def test_an_architecture_that_is_written_in_small_letters_is_named_as_it_is_called(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no model 'compact'.*; the architecture is called Compact"):
        adopted(recipes.load("finetune"), {"network": "compact"}, tmp_path)


def test_a_run_whose_network_only_its_own_recipe_knows_is_answered_with_how_to_begin(tmp_path: Path) -> None:
    folder, module = RunFolder(tmp_path / "first"), recipes.load("pixelshuffle")
    network, meta = module.generator(module.tiny()), {"recipe": "pixelshuffle", "config": {}, "scale": 4}
    save_model(folder.path / "model", network, meta)
    record(folder, check.first_run(*plan_of("pixelshuffle", changes=LENGTH)), {}, {})
    with pytest.raises(CheckpointError, match=r"only its own recipe, pixelshuffle, knows .* --set judge=none"):
        adopted(recipes.load("finetune"), {"network": "first"}, tmp_path)
