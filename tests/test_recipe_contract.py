"""What every recipe must do. The tests find the recipes by themselves and build each from its `tiny()`."""

import io
import json
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sisr import recipes
from sisr.config import Settings, build
from sisr.draws import Draws
from sisr.recipe import Crop, parameter_count
from sisr.training import precision
from sisr.training.update import Updates
from two_workers import WORLD, on_two_workers

SEED = 3
STEPS = 4
LOGGED = {
    "generator/total",
    "generator/pixel",
    "generator/perceptual",
    "generator/adversarial",
    "discriminator/total",
    "discriminator/penalty",
    "discriminator/real_logits",
    "discriminator/fake_logits",
    "critic/total",
    "critic/penalty",
    "critic/real_scores",
    "critic/fake_scores",
    "learning_rate",
}

# `generator/total` of the first three steps in float64, to notice changes of the mathematics.
RECORDED = {
    "encdec_gan": [0.08588687677961555, 0.08648610105533679, 0.08609716522592419],
    "esrgan": [0.5040368279937236, 3.491789060645381, 3.469076902768023],
    "pixelshuffle": [0.24317074845751263, 0.24668637236920463, 0.23952620845978637],
    "srez": [0.18786872647293135, 0.19007360108852406, 0.1802117298447194],
    "srgan_gp": [5.766461958086929, 5.816984325203801, 5.658437001544693],
    "srresnet": [0.24290354308119622, 0.24516207304683948, 0.24001648314448162],
}


class Trainer:
    """A recipe made from `tiny()` and the steps of one of `world` workers."""

    def __init__(self, name: str, dtype: torch.dtype = torch.float32, rank: int = 0, world: int = 1) -> None:
        self.module = recipes.load(name)
        self.config = self.module.tiny()
        torch.manual_seed(SEED)
        self.recipe: Any = self.module.Recipe(self.config)
        self.parts: dict[str, Any] = self.recipe.parts()
        self.networks = {k: v for k, v in self.parts.items() if isinstance(v, nn.Module)}
        for network in self.networks.values():
            network.to(dtype)
        optimizers = {k: v for k, v in self.parts.items() if isinstance(v, Optimizer)}
        self.updates = Updates(optimizers, world=world)
        self.dtype, self.share = dtype, self.config.batch_size // world
        self.first = rank * self.share

    def hr(self, step: int) -> Tensor:
        side, random = self.recipe.crop.side, torch.Generator().manual_seed(step)
        images = torch.rand(self.config.batch_size, 3, side, side, generator=random, dtype=torch.float64)
        return images[self.first : self.first + self.share].to(self.dtype)

    def step(self, step: int, number_format: str = "fp32") -> dict[str, Tensor]:
        draws = Draws(SEED, step, self.first, self.share)
        hr = self.hr(step)
        lr = self.recipe.degrade(hr, draws)
        self.updates.begin()
        with precision.autocast(number_format, torch.device("cpu")):
            return self.recipe.train_step(lr, hr, draws, step, self.updates)

    def run(self, steps: range, number_format: str = "fp32") -> list[dict[str, Tensor]]:
        return [self.step(step, number_format) for step in steps]

    def state(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self.parts.items()}


def copied(value: Any) -> Any:
    file = io.BytesIO()
    torch.save(value, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


def tensors(value: Any) -> dict[str, Tensor]:
    """Return all tensors in nested state dicts by their path."""
    if isinstance(value, Tensor):
        return {"": value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {f"{key}.{path}": tensor for key, item in items for path, tensor in tensors(item).items()}


def assert_same_bits(one: Any, other: Any) -> None:
    left, right = tensors(one), tensors(other)
    assert left.keys() == right.keys()
    different = [path for path in left if not torch.equal(left[path], right[path])]
    assert not different


def double_precision_worker(rank: int) -> dict[str, Any]:
    return {name: first_and_last_state(Trainer(name, torch.float64, rank, WORLD)) for name in recipes.names()}


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


def test_the_recipe_has_what_the_loop_needs(name: str) -> None:
    trainer = Trainer(name)
    assert isinstance(trainer.recipe.crop, Crop)
    assert trainer.recipe.scale == trainer.recipe.generator.scale == trainer.config.scale
    assert trainer.parts["generator"] is trainer.recipe.generator
    alone = trainer.module.generator(trainer.config)
    assert alone.state_dict().keys() == trainer.recipe.generator.state_dict().keys()


def test_every_trainable_value_has_exactly_one_optimizer(name: str) -> None:
    trainer = Trainer(name)
    optimizers = [part for part in trainer.parts.values() if isinstance(part, Optimizer)]
    owned = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    assert len(set(owned)) == len(owned)
    assert sum(p.numel() for p in owned) == sum(parameter_count(n) for n in trainer.networks.values())


def test_lr_is_hr_made_smaller_in_the_range_of_images(name: str) -> None:
    trainer = Trainer(name)
    hr = trainer.hr(0)
    lr = trainer.recipe.degrade(hr, Draws(SEED, 0, 0, trainer.share))
    side = trainer.recipe.crop.side // trainer.config.scale
    assert lr.shape == (trainer.share, 3, side, side)
    assert lr.min() >= 0
    assert lr.max() <= 1


def test_steps_move_every_network_and_leave_no_nan(name: str) -> None:
    trainer = Trainer(name)
    before = copied(trainer.state())
    logged = trainer.run(range(STEPS))
    assert not trainer.updates.skipped
    for key, network in trainer.networks.items():
        moved = [not torch.equal(p, before[key][n]) for n, p in network.named_parameters() if p.requires_grad]
        assert any(moved) or not moved, f"{key} did not move"
    assert all(torch.isfinite(value).all() for value in tensors(trainer.state()).values())
    assert all(torch.isfinite(value) for scalars in logged for value in scalars.values())


def test_what_is_logged_are_detached_scalars_with_known_names(name: str) -> None:
    for scalars in Trainer(name).run(range(STEPS)):
        assert scalars.keys() <= LOGGED
        assert all(value.ndim == 0 and not value.requires_grad for value in scalars.values())


def test_a_generators_loss_leaves_the_judge_untouched(name: str) -> None:
    trainer = Trainer(name)
    judge = trainer.networks.get("discriminator") or trainer.networks.get("critic")
    if judge is None:
        pytest.skip("has no judge")
    changed: list[str] = []

    def generator_only(optimizer: Optimizer, loss: Tensor, *, retain_graph: bool = False) -> None:
        if optimizer is not trainer.parts["generator_optimizer"]:
            return
        before = copied(dict(judge.named_parameters()))
        trainer.updates(optimizer, loss, retain_graph=retain_graph)
        changed.extend(n for n, p in judge.named_parameters() if not torch.equal(p, before[n]) or p.grad is not None)

    trainer.updates.begin()
    hr = trainer.hr(0)
    for step in range(STEPS):
        draws = Draws(SEED, step, 0, trainer.share)
        trainer.recipe.train_step(trainer.recipe.degrade(hr, draws), hr, draws, step, generator_only)
    assert not changed


def test_same_seed_same_step_whatever_else_was_drawn(name: str) -> None:
    one, other = Trainer(name), Trainer(name)
    one.run(range(STEPS))
    torch.manual_seed(12345)
    other.run(range(STEPS))
    assert_same_bits(one.state(), other.state())


def test_save_load_continue_equals_uninterrupted(name: str) -> None:
    whole, begun, resumed = Trainer(name), Trainer(name), Trainer(name)
    whole.run(range(STEPS))
    begun.run(range(STEPS // 2))
    saved = copied(begun.state())
    for key, part in resumed.parts.items():
        part.load_state_dict(saved[key])
    resumed.run(range(STEPS // 2, STEPS))
    assert_same_bits(whole.state(), resumed.state())


def test_the_configured_rate_holds_after_loading(name: str) -> None:
    trainer = Trainer(name)
    rates = [scalars["learning_rate"] for scalars in trainer.run(range(STEPS))]
    for part in trainer.parts.values():
        if isinstance(part, Optimizer):
            part.param_groups[0]["lr"] = 1.0
    assert trainer.step(0)["learning_rate"] == rates[0]
    assert trainer.parts["generator_optimizer"].param_groups[0]["lr"] == pytest.approx(rates[0].item())


# Adam divides gradients that are only rounding errors (biases in front of batch norm) by nearly nothing.
@pytest.mark.parametrize(("moment", "tolerance"), [("first", 1e-10), ("last", 1e-8)])
def test_two_workers_equal_one(name: str, moment: str, tolerance: float, two_workers: list[Any]) -> None:
    alone = tensors(first_and_last_state(Trainer(name, torch.float64))[moment])
    one, other = (tensors(worker[name][moment]) for worker in two_workers)
    assert_same_bits(one, other)
    assert one.keys() == alone.keys()
    apart = {path: (one[path] - alone[path]).abs().max().item() for path in alone}
    worst = max(apart, key=lambda path: apart[path])
    assert apart[worst] < tolerance, worst


def test_the_generator_accepts_the_sizes_it_claims(name: str) -> None:
    generator = Trainer(name).recipe.generator.eval()
    multiple, scale = generator.size_multiple, generator.scale
    for height, width in [(8, 8), (multiple, 3 * multiple), (5 * multiple, 2 * multiple)]:
        assert generator(torch.rand(1, 3, height, width)).shape == (1, 3, scale * height, scale * width)


def test_the_generator_refuses_other_inputs_and_says_what_it_wants(name: str) -> None:
    generator = Trainer(name).recipe.generator.eval()
    with pytest.raises(ValueError, match=r"RGB images \(n, 3, h, w\), got \(1, 1, 8, 8\)"):
        generator(torch.rand(1, 1, 8, 8))
    with pytest.raises(ValueError, match="RGB images"):
        generator(torch.rand(3, 8, 8))
    if generator.size_multiple > 1:
        with pytest.raises(ValueError, match=f"multiples of {generator.size_multiple}, got 8x9"):
            generator(torch.rand(1, 3, 8, 9))


def test_three_steps_give_the_recorded_losses(name: str) -> None:
    losses = [scalars["generator/total"].item() for scalars in Trainer(name, torch.float64).run(range(3))]
    assert name in RECORDED, f"record the losses of {name}: {losses}"
    assert losses == pytest.approx(RECORDED[name], rel=1e-6)


def test_a_bf16_step_stays_near_the_float32_step(name: str) -> None:
    exact, rough = Trainer(name), Trainer(name)
    for step in range(STEPS):
        for key, part in rough.parts.items():
            part.load_state_dict(copied(exact.state()[key]))
        expected, found = exact.step(step), rough.step(step, "bf16")
        for key, value in expected.items():
            assert found[key].item() == pytest.approx(value.item(), rel=0.05, abs=0.02), f"{key} at step {step}"


def test_a_bf16_forward_pass_sees_the_weights_of_the_last_update() -> None:
    layer, x = nn.Linear(1, 1, bias=False), torch.ones(1, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    updates = Updates({"optimizer": optimizer})
    updates.begin()
    with precision.autocast("bf16", torch.device("cpu")):
        before = layer(x)
        updates(optimizer, before.sum())
        after = layer(x)
    assert (before - after).item() == pytest.approx(1.0, abs=0.01)


def test_a_step_of_compiled_networks_equals_a_plain_one(name: str) -> None:
    plain, compiled = Trainer(name, torch.float64), Trainer(name, torch.float64)
    torch.compiler.reset()
    for network in compiled.networks.values():
        network.compile(backend="aot_eager")  # all of compilation but code generation
    for step in range(2):
        expected, found = plain.step(step), compiled.step(step)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_fused_optimizers_get_gradients_laid_out_as_their_parameters(name: str) -> None:
    trainer = Trainer(name)
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
