"""What every recipe must do. The tests find the recipes by themselves and build each from its `tiny()`."""

import functools
import io
import json
import re
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from sisr import recipes
from sisr.config.settings import Settings, build
from sisr.training import contract
from sisr.training.device import autocast
from sisr.training.rehearsal import STEPS, Trainer, different, tensors
from sisr.training.update import Updates
from two_workers import WORLD, on_two_workers

# `generator/total` of the first three steps in float64, to notice changes of the mathematics.
RECORDED = {
    "encdec_gan": [0.08588687677961555, 0.08649188645331507, 0.08610048640145265],
    "esrgan": [0.5040368279937236, 3.491789060645381, 3.469076902768023],
    "finetune": [0.24784459838645848, 3.0441646536155065, 3.0466040450993823],
    "pixelshuffle": [0.24317074845751263, 0.24668637236920463, 0.23952620845978637],
    "realesrgan": [0.5034648203494897, 2.737165688151464, 2.7172050297748265],
    "srez": [0.18786872647293135, 0.19007360108852406, 0.1802117298447194],
    "srgan_gp": [5.766461958086929, 5.816984325203801, 5.658437001544693],
    "srresnet": [0.24290354308119622, 0.24516207304683948, 0.24001648314448162],
}


def trainer_of(name: str, dtype: torch.dtype = torch.float32, rank: int = 0, world: int = 1, **more: Any) -> Trainer:
    return Trainer(recipes.load(name), dtype, rank, world, **more)


def copied(value: Any) -> Any:
    file = io.BytesIO()
    torch.save(value, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


def double_precision_worker(rank: int) -> dict[str, Any]:
    found = {name: first_and_last_state(trainer_of(name, torch.float64, rank, WORLD)) for name in recipes.names()}
    for name in recipes.names():
        uneven = trainer_of(name, torch.float64, rank, WORLD, batch_size=3)
        uneven.step(0)
        found[name]["uneven"] = uneven.state()
    return found


@functools.cache
def of_one_worker(name: str) -> dict[str, Any]:
    return first_and_last_state(trainer_of(name, torch.float64))


def first_and_last_state(trainer: Trainer) -> dict[str, Any]:
    trainer.step(0)
    first = copied(trainer.state())
    trainer.run(range(1, STEPS))
    return {"first": first, "last": trainer.state()}


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return on_two_workers(double_precision_worker, tmp_path_factory.mktemp("workers"))


@pytest.fixture(params=recipes.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_module_exports_the_contract(name: str) -> None:
    module = recipes.load(name)
    config = module.tiny()
    assert isinstance(config, Settings)
    assert isinstance(module.Config(), module.Config), "every field has a default"
    assert {"scale", "batch_size", "steps", "hr_crop", "learning_rate"} <= module.Config.model_fields.keys()
    undescribed = [key for key, field in module.Config.model_fields.items() if not field.description]
    assert not undescribed


def test_the_docstring_names_source_command_and_measurement(name: str) -> None:
    text = recipes.load(name).__doc__ or ""
    assert re.search(r"^Source: \S", text, re.M)
    assert re.search(rf"^Command: sisr train {name}\b", text, re.M)
    assert re.search(r"^Measured: \S", text, re.M)


def test_settings_survive_json(name: str) -> None:
    config = recipes.load(name).tiny()
    assert build(type(config), json.loads(config.model_dump_json())) == config


@pytest.mark.parametrize("what", contract.CHECKS)
def test_the_recipe_keeps_the_contract(name: str, what: str) -> None:
    contract.CHECKS[what](recipes.load(name))


def test_what_is_logged_is_named_after_its_network(name: str) -> None:
    trainer = trainer_of(name)
    owners = {key.partition("/")[0] for scalars in trainer.run(range(STEPS)) for key in scalars}
    assert owners <= {*trainer.networks, "learning_rate"}


def test_the_configured_rate_holds_after_loading(name: str) -> None:
    trainer = trainer_of(name)
    rates = [scalars["learning_rate"] for scalars in trainer.run(range(STEPS))]
    for part in trainer.parts.values():
        if isinstance(part, Optimizer):
            part.param_groups[0]["lr"] = 1.0
    assert trainer.step(0)["learning_rate"] == rates[0]
    assert trainer.parts["generator_optimizer"].param_groups[0]["lr"] == pytest.approx(rates[0].item())


# Adam divides gradients that are only rounding errors (biases in front of batch norm) by nearly nothing.
@pytest.mark.slow
@pytest.mark.parametrize(("moment", "tolerance"), [("first", 1e-9), ("last", 1e-8)])
def test_two_workers_equal_one(name: str, moment: str, tolerance: float, two_workers: list[Any]) -> None:
    alone = tensors(of_one_worker(name)[moment])
    one, other = (tensors(worker[name][moment]) for worker in two_workers)
    assert not different(one, other)
    assert one.keys() == alone.keys()
    apart = {path: (one[path] - alone[path]).abs().max().item() for path in alone}
    worst = max(apart, key=lambda path: apart[path])
    assert apart[worst] < tolerance, worst


@pytest.mark.slow
def test_two_workers_with_two_examples_and_one_equal_one_with_three(name: str, two_workers: list[Any]) -> None:
    trainer = trainer_of(name, torch.float64, batch_size=3)
    trainer.step(0)
    alone = tensors(trainer.state())
    one, other = (tensors(worker[name]["uneven"]) for worker in two_workers)
    assert not different(one, other)
    apart = {path: (one[path] - alone[path]).abs().max().item() for path in alone}
    assert max(apart.values()) < 1e-10, max(apart, key=lambda path: apart[path])


@pytest.mark.slow
def test_four_steps_of_wgan_gp_on_two_workers_equal_one_to_1e_10(two_workers: list[Any]) -> None:
    trainer = trainer_of("srgan_gp", torch.float64)
    trainer.run(range(STEPS))
    one, other = (worker["srgan_gp"]["last"] for worker in two_workers)
    assert not different(one, other), "ranks hold the same bits"
    apart = {
        f"{key}.{path}": (parameter - one[key][path]).abs().max().item()
        for key, network in trainer.networks.items()
        for path, parameter in network.named_parameters()
    }
    assert max(apart.values()) < 1e-10
    assert {key.partition(".")[0] for key in apart} == {"generator", "critic"}


def test_the_generator_refuses_other_inputs_and_says_what_it_wants(name: str) -> None:
    generator = trainer_of(name).recipe.generator.eval()
    with pytest.raises(ValueError, match=r"RGB images \(n, 3, h, w\), got \(1, 1, 8, 8\)"):
        generator(torch.rand(1, 1, 8, 8))
    with pytest.raises(ValueError, match="RGB images"):
        generator(torch.rand(3, 8, 8))
    if generator.tiling.size_multiple > 1:
        with pytest.raises(ValueError, match=f"multiples of {generator.tiling.size_multiple}, got 8x9"):
            generator(torch.rand(1, 3, 8, 9))


def test_three_steps_give_the_recorded_losses(name: str) -> None:
    losses = [scalars["generator/total"].item() for scalars in trainer_of(name, torch.float64).run(range(3))]
    assert name in RECORDED, f"record the losses of {name}: {losses}"
    assert losses == pytest.approx(RECORDED[name], rel=1e-6)


@pytest.mark.slow
def test_a_bf16_step_stays_near_the_float32_step(name: str) -> None:
    """Within a tenth: processors that multiply in bf16 themselves round more often than those that only store it."""
    exact, rough = trainer_of(name), trainer_of(name)
    for step in range(STEPS):
        for key, part in rough.parts.items():
            part.load_state_dict(copied(exact.state()[key]))
        expected, found = exact.step(step), rough.step(step, "bf16")
        for key, value in expected.items():
            assert found[key].item() == pytest.approx(value.item(), rel=0.1, abs=0.02), f"{key} at step {step}"


def test_a_bf16_forward_pass_sees_the_weights_of_the_last_update() -> None:
    layer, x = nn.Linear(1, 1, bias=False), torch.ones(1, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    updates = Updates({"optimizer": optimizer})
    updates.begin()
    with autocast("bf16", torch.device("cpu")):
        before = layer(x)
        updates(optimizer, before.sum())
        after = layer(x)
    assert (before - after).item() == pytest.approx(1.0, abs=0.01)


@pytest.mark.slow
def test_a_step_of_compiled_networks_equals_a_plain_one(name: str) -> None:
    plain, compiled = trainer_of(name, torch.float64), trainer_of(name, torch.float64)
    torch.compiler.reset()
    for network in compiled.networks.values():
        network.compile(backend="aot_eager")  # all of compilation but code generation
    for step in range(2):
        expected, found = plain.step(step), compiled.step(step)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_fused_optimizers_get_gradients_laid_out_as_their_parameters(name: str) -> None:
    trainer = trainer_of(name)
    wrong: list[str] = []
    for key, part in trainer.parts.items():
        if isinstance(part, Optimizer) and part.defaults.get("fused"):

            def look(optimizer: Optimizer, args: Any, kwargs: Any, key: str = key) -> None:
                parameters = [p for group in optimizer.param_groups for p in group["params"]]
                # PyTorch's fused Adam walks both in the order of memory: other strides would mix up the values.
                wrong.extend(key for p in parameters if p.grad is not None and p.grad.stride() != p.stride())

            part.register_step_pre_hook(look)
    trainer.run(range(STEPS))
    assert not wrong
