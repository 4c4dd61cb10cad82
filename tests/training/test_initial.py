"""Runs that start with other weights than random ones."""

import copy
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sisr import recipes
from sisr.driver.run.execute import Order, Tracking, execute
from sisr.driver.run.first_weights import FirstWeights
from sisr.driver.run.hosts import in_process, in_processes
from sisr.driver.run.order import place_init, prepare
from sisr.driver.run.record import take_up
from sisr.driver.run.workers import exactly
from sisr.errors import CheckpointError, ConfigError, StoppedError
from sisr.models.files import save_model
from sisr.training import origin
from sisr.training.checkpoint_files import load_state
from sisr.training.run import Options, Run

OPTIONS = Options(validation_side=48, evaluate_every=2, precision="fp32", channels_last=False)


def order(init: str | None = None, partly: bool = False, judge: str | None = None, **changes: Any) -> Order:
    changes["first"] = FirstWeights(generator=init, partly=partly, judge=judge)
    config = recipes.load("esrgan").tiny().model_dump(mode="json")
    return Order(**({"recipe": "esrgan", "values": config | {"steps": 2}, "options": OPTIONS, "name": "new"} | changes))


def random_weights(seed: int = 5, **changes: Any) -> dict[str, Tensor]:
    """Return weights of a generator as `esrgan` makes it."""
    torch.manual_seed(seed)
    module = recipes.load("esrgan")
    config = module.tiny().model_copy(update=changes)
    return {name: value.detach() for name, value in module.generator(config).state_dict().items()}


def model_folder(path: Path, seed: int = 5) -> dict[str, Tensor]:
    module = recipes.load("esrgan")
    config = module.tiny()
    generator = module.generator(config)
    generator.load_state_dict(random_weights(seed))
    save_model(path, generator, {"recipe": "esrgan", "config": config.model_dump(mode="json"), "scale": 4})
    return random_weights(seed)


def train(given: Order, workers: int = 1, host: Any = in_process) -> None:
    """Train as `execute` does, without MLflow."""
    run, folder, data = prepare(given)
    take_up(run, folder, data, False)
    place_init(given, run, folder)
    (partial(in_processes, workers) if workers > 1 else host)(run, folder, lambda: None)


def started_with(run: str = "new") -> dict[str, Tensor]:
    """Return the averaged weights, which two steps of a rate near 0 left where they were."""
    return dict(load_state(Path("runs", run, "checkpoints/step_000000002"))["ema"])


STILL = {"learning_rate": 1e-30, "pretrain_learning_rate": 1e-30}


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("workers", [1, 2])
def test_generator_and_average_start_from_a_basicsr_file(workers: int) -> None:
    wanted = random_weights()
    torch.save({"params": random_weights(6), "params_ema": wanted}, "RRDB_PSNR_x4.pth")
    values = order().values | STILL
    train(order(init="RRDB_PSNR_x4.pth", values=values, workers=exactly(workers)), workers)
    torch.testing.assert_close(started_with(), wanted, rtol=0, atol=1e-7)
    state = load_state(Path("runs/new/checkpoints/step_000000002"))
    torch.testing.assert_close(dict(state["parts"]["generator"]), wanted, rtol=0, atol=1e-7)
    record = json.loads(Path("runs/new/run.json").read_text())["run"]
    assert record["init"] == "RRDB_PSNR_x4.pth"
    assert len(record["init_sha256"]) == 64


def test_a_run_and_a_model_folder_and_their_weights_are_the_same_start() -> None:
    model_folder(Path("runs/old/model"))
    Path("runs/old/run.json").write_text("{}")
    hashes = {prepare(order(init=spec))[0].init_sha256 for spec in ("old", "runs/old/model", "runs/old")}
    hashes.add(prepare(order(init="runs/old/model/generator.safetensors"))[0].init_sha256)
    assert len(hashes) == 1


def test_other_first_weights_are_another_run() -> None:
    model_folder(Path("a"), 1)
    model_folder(Path("b"), 2)
    names = {prepare(order(init=spec, name=None))[0].name for spec in (None, "a", "b")}
    assert len(names) == 3


def test_weights_that_do_not_fit_are_refused_before_anything_starts() -> None:
    torch.save(random_weights(num_features=4), "narrow.pth")
    with pytest.raises(
        ConfigError, match=r"'conv_first.weight' has the shape \(4, 3, 3, 3\) there and \(8, 3, 3, 3\) here"
    ):
        prepare(order(init="narrow.pth"))
    torch.save(random_weights(num_blocks=2), "deep.pth")
    with pytest.raises(ConfigError, match=r"it has 'body.1.rdb1.conv1.weight', which this network lacks"):
        prepare(order(init="deep.pth"))
    torch.save({"other": torch.zeros(1)}, "other.pth")
    with pytest.raises(ConfigError, match=r"it lacks 'conv_first.weight' and it has 'other'.* Nothing fits"):
        prepare(order(init="other.pth"))
    with pytest.raises(CheckpointError, match="--init nobody: no model 'nobody'"):
        prepare(order(init="nobody"))
    assert not Path("runs").exists()


def test_partly_takes_what_fits_and_says_what_was_taken_and_what_was_not(capsys: pytest.CaptureFixture[str]) -> None:
    other = random_weights(num_blocks=2) | {"conv_last.weight": torch.zeros(3, 4, 3, 3)}
    torch.save(other, "other.pth")
    with pytest.raises(ConfigError, match="--init-partly takes what fits"):
        prepare(order(init="other.pth"))
    given = order(init="other.pth", partly=True)
    run, folder, data = prepare(given)
    take_up(run, folder, data, False)
    place_init(given, run, folder)
    placed = load_file(folder.init)
    assert placed.keys() == random_weights().keys() - {"conv_last.weight"}
    assert all(torch.equal(value, other[name]) for name, value in placed.items())
    said = " ".join(capsys.readouterr().err.split())
    assert f"taken {len(placed)} of {len(random_weights())} tensors" in said
    assert "left random: conv_last.weight (3, 8, 3, 3), not (3, 4, 3, 3)" in said
    assert "not used: body.* (30, the first body.1.rdb1.conv1.weight)" in said
    recipe = run.build_recipe()
    before = recipe.generator.state_dict()["conv_last.weight"].clone()
    origin.start_from(run, folder, recipe, copy.deepcopy(recipe.generator))
    after = recipe.generator.state_dict()
    assert torch.equal(after["conv_last.weight"], before)
    assert torch.equal(after["conv_first.weight"], other["conv_first.weight"])


def test_weights_of_which_nothing_fits_are_refused_also_partly() -> None:
    torch.save({"other": torch.zeros(1)}, "other.pth")
    with pytest.raises(
        ConfigError, match=r"lacks 'conv_first.weight'.* Nothing fits: these are another network's weights"
    ):
        prepare(order(init="other.pth", partly=True))
    with pytest.raises(ConfigError, match="--init-partly has no effect without --init"):
        prepare(order(partly=True))


@pytest.mark.slow
def test_a_judge_starts_as_the_one_of_another_run_or_of_a_file() -> None:
    train(order(name="teacher"))
    learned = dict(load_state(Path("runs/teacher/checkpoints/step_000000002"))["parts"]["discriminator"])
    torch.save({"params": learned | {"bn0_1.num_batches_tracked": torch.tensor(7)}}, "judge.pth")
    digests = []
    for spec in ("teacher", "runs/teacher/checkpoints/step_000000002", "judge.pth"):
        given = order(judge=spec)
        run, folder, data = prepare(given)
        take_up(run, folder, data, False)
        place_init(given, run, folder)
        recipe: Any = run.build_recipe()
        origin.start_from(run, folder, recipe, copy.deepcopy(recipe.generator))
        found = recipe.discriminator.state_dict()
        assert all(torch.equal(found[name], value) for name, value in learned.items())
        digests.append(run.init_judge_sha256)
    assert len(set(digests)) == 1
    assert prepare(order(name=None, judge="judge.pth"))[0].name != prepare(order(name=None))[0].name


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("nobody", "--init-judge nobody: no weights file"),
        ("narrow.pth", r"--init-judge narrow\.pth does not fit the 'discriminator'"),
    ],
)
def test_a_judge_that_can_t_be_used_is_explained(spec: str, said: str) -> None:
    torch.save({"conv0_0.weight": torch.zeros(2, 3, 3, 3)}, "narrow.pth")
    with pytest.raises((ConfigError, CheckpointError), match=said):
        prepare(order(judge=spec))
    values = recipes.load("pixelshuffle").tiny().model_dump(mode="json")
    torch.save(random_weights(), "any.pth")
    with pytest.raises(ConfigError, match="a recipe with one judge; as configured it has none"):
        prepare(order(recipe="pixelshuffle", values=values, judge="any.pth"))


@pytest.mark.slow
def test_a_resumed_run_goes_on_without_its_first_weights(no_courier: None) -> None:
    torch.save(random_weights(), "first.pth")
    stop_after = order(init="first.pth", values=order().values | {"steps": 4})

    def stopping(run: Run, folder: Any, tick: Any) -> dict[str, Any]:
        folder.request_stop()
        return in_process(run, folder, tick)

    with pytest.raises(StoppedError):
        execute(stop_after, Tracking(), stopping)
    Path("first.pth").unlink()
    Path("runs/new/init.safetensors").unlink()
    assert execute(stop_after, Tracking(), in_process)["step"] == 4


def test_first_weights_that_a_worker_does_not_find_are_an_error() -> None:
    torch.save(random_weights(), "first.pth")

    def losing(run: Run, folder: Any, tick: Any) -> dict[str, Any]:
        folder.init.unlink()
        return in_process(run, folder, tick)

    with pytest.raises(CheckpointError, match="all workers must share --runs"):
        train(order(init="first.pth"), host=losing)
