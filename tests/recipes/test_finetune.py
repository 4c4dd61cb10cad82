"""Fine-tuning: whose network is trained, when the judge counts, and what is refused."""

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import foreign
from sisr import recipes
from sisr.disk.run_folder import RunFolder
from sisr.driver.run.first_weights import FirstWeights
from sisr.driver.run.order import Order, place_init, prepare
from sisr.driver.run.record import take_up
from sisr.driver.sweep.host import trial_run
from sisr.driver.sweep.planning import plan_of
from sisr.errors import CheckpointError, ConfigError
from sisr.models import zoo
from sisr.models.model import load_model
from sisr.sweep.state import Trial
from sisr.training.local import train_here
from sisr.training.options import Options
from sisr.training.rehearsal import Trainer, different
from sisr.training.session import NoLog

SMALL = {"batch_size": 2, "steps": 2, "hr_crop": 32, "perceptual": "none", "judge": "none"}


@pytest.fixture(autouse=True)
def cache(session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SISR_CACHE", str(session_cache))


def weights_file(name: str = "Compact", path: str = "weights.pth", seed: int = 5) -> dict[str, torch.Tensor]:
    state = {key: value.detach() for key, value in foreign.build(name, seed=seed).state_dict().items()}
    torch.save({"params_ema": state}, path)
    return state


def order(first: FirstWeights | None = None, name: str | None = "new", **values: Any) -> Order:
    options = Options(validation_side=48, precision="fp32", perceptual="none", evaluate_every=1)
    return Order(recipe="finetune", values=SMALL | values, options=options, name=name, first=first or FirstWeights())


def test_only_the_judge_learns_in_its_warm_up() -> None:
    trainer = Trainer(foreign.recipe_of("Compact", judge_warmup_steps=2, ramp_steps=2))
    before = copy.deepcopy(trainer.state())
    trainer.run(range(2))
    assert different(before["generator"], trainer.state()["generator"]) == []
    assert different(before["discriminator"], trainer.state()["discriminator"]) != []
    trainer.step(2)
    assert different(before["generator"], trainer.state()["generator"]) != []


def test_the_u_net_judges_by_default_and_learns() -> None:
    assert recipes.load("finetune").Config().judge == "unet"
    trainer = Trainer(foreign.recipe_of("Compact", judge="unet", judge_warmup_steps=0))
    before = copy.deepcopy(trainer.state())
    trainer.run(range(2))
    for part in ("generator", "discriminator"):
        assert different(before[part], trainer.state()[part]) != []
    odd = recipes.load("finetune").Config(judge="unet", hr_crop=36, perceptual="none")
    with pytest.raises(ConfigError, match="judge=unet wants hr_crop to be a multiple of 8, got 36"):
        recipes.load("finetune").Recipe(odd)


def test_the_adversarial_weight_rises_after_the_warm_up_and_stays() -> None:
    module = foreign.recipe_of("Compact", judge_warmup_steps=10, ramp_steps=4, adversarial_weight=0.2)
    recipe: Any = module.Recipe(module.tiny())
    steps = (0, 9, 10, 11, 12, 13, 14, 1000)
    assert [recipe.adversarial_weight(step) for step in steps] == pytest.approx([0, 0, 0.05, 0.1, 0.15, 0.2, 0.2, 0.2])


@pytest.mark.slow
def test_a_run_records_the_architecture_and_the_weights_and_then_needs_no_file() -> None:
    state = weights_file("SPAN")
    run, folder, data = prepare(order(network="weights.pth"))
    assert (run.config["network"], run.config["network_options"], run.config["scale"]) == (
        "SPAN",
        {"feature_channels": 8},
        4,
    )
    assert (run.init, len(run.init_sha256)) == ("weights.pth", 64)
    take_up(run, folder, data, False)
    place_init(order(network="weights.pth"), run, folder)
    train_here(run.model_copy(update={"config": run.config | {"learning_rate": 1e-30}}), folder, NoLog())
    trained = load_model(folder.model).generator.state_dict()
    for key, value in state.items():
        torch.testing.assert_close(trained[key], value, rtol=1e-5, atol=1e-6)
    Path("weights.pth").unlink()
    folder.init.unlink()
    again, _, _ = prepare(order(network="weights.pth"))
    assert again == run


def test_other_weights_of_the_same_architecture_are_another_run() -> None:
    weights_file(seed=1)
    first = prepare(order(name=None, network="weights.pth"))[0]
    weights_file(seed=2)
    second = prepare(order(name=None, network="weights.pth"))[0]
    assert first.config == second.config
    assert first.name != second.name


@pytest.mark.parametrize(
    ("values", "first", "said"),
    [
        (
            {"network": "weights.pth", "scale": 2},
            None,
            "scale 2 has no effect with the network .* whose is 4",
        ),
        ({"network": "weights.pth", "network_options": {"num_conv": 1}}, None, "network_options .* has no effect"),
        (
            {"network": "weights.pth"},
            FirstWeights(generator="x.pth"),
            "--init has no effect where network is weights",
        ),
        (
            {"network": "SAFMN", "network_options": {"dim": 8}, "hr_crop": 40},
            None,
            "SAFMN takes lr of multiples of 8 px.*hr_crop 40.*; 64 does",
        ),
    ],
)
def test_settings_that_contradict_the_network_are_refused(values: Any, first: Any, said: str) -> None:
    weights_file()
    with pytest.raises(ConfigError, match=said):
        prepare(order(first, **values))


def test_weights_of_which_nothing_fits_are_taken_with_their_network_only_where_somebody_knows_it() -> None:
    weights_file()
    with pytest.raises(ConfigError, match=r"Nothing fits.*; --set network=weights\.pth takes its network, too$"):
        prepare(order(FirstWeights(generator="weights.pth"), network="Compact"))
    torch.save({"other": torch.zeros(1)}, "other.pth")
    with pytest.raises(ConfigError, match=r"Nothing fits: these are another network's weights$"):
        prepare(order(FirstWeights(generator="other.pth"), network="Compact"))


def test_a_network_that_is_nowhere_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"network nowhere\.pth: no model 'nowhere\.pth'"):
        prepare(order(network="nowhere.pth"))


def test_without_spandrel_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(ConfigError, match=r"^networks and weights of other projects need: pip install 'sisr\[zoo\]'$"):
        prepare(order(network="SPAN"))


def test_a_sweep_s_trials_start_with_the_model_s_network_and_weights() -> None:
    weights_file("SPAN")
    plan, _ = plan_of("finetune", settings=("network=weights.pth", "perceptual=none"))
    assert (plan.fixed["network"], plan.fixed["network_options"]) == ("SPAN", {"feature_channels": 8})
    run = trial_run(plan.model_copy(update={"init_sha256": "abc"}), Trial(0, {}, {}))
    assert (run.init, run.init_sha256, run.config["network"]) == ("weights.pth", "abc", "SPAN")
    with pytest.raises(ConfigError, match="--scheduler plateau"):
        plan_of("finetune", settings=("network=weights.pth",), options={"patience": 3})


def test_the_default_is_an_architecture_that_is_built_anew() -> None:
    assert isinstance(recipes.load("finetune").generator(recipes.load("finetune").tiny()), zoo.Adapted)
    assert not RunFolder(Path("runs/new")).run.exists()
