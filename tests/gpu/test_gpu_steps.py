"""The steps of every recipe's `tiny()` on a GPU: equal to a CPU's, in every number format, compiled or not."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from sisr import recipes
from sisr.data.draws import Draws
from sisr.training.compiling import CAPTURING
from sisr.training.rehearsal import Trainer
from sisr.training.update import Updates

STEPS = 3
# Largest difference to float64 on the CPU: of what a step logs and of gradients' norms, relative to values of 0.1 at
# least; and of the mean pixel that the generator makes after the steps, in units of white. A CPU itself reaches 1e-5,
# 1e-5 and 1e-6 in float32; in half precision 0.04, 0.24 (srez, others 0.01) and 5e-5.
TOLERANCES = {"fp32": (2e-3, 2e-3, 1e-3), "bf16": (0.15, 0.5, 1e-2), "fp16": (0.15, 0.5, 1e-2)}
SCALE = 2.0**10  # of fp16 losses: the first one tried would overflow, and the step be skipped

pytestmark = pytest.mark.usefixtures("float32_is_float32")


def trained(recipe: str, device: torch.device, number_format: str, compiler: str | None = None) -> Trainer:
    trainer = Trainer(recipes.load(recipe), dtype(number_format), device=device)
    if number_format == "fp16":
        trainer.updates = Updates(trainer.optimizers, scaled=True)
        set_scale(trainer, SCALE)
    if compiler:
        torch.compiler.reset()
        for network in trainer.networks.values():
            network.compile(backend=compiler)
    return trainer


def set_scale(trainer: Trainer, scale: float) -> None:
    names = trainer.optimizers
    trainer.updates.load_state_dict({"scales": dict.fromkeys(names, scale), "good_steps": dict.fromkeys(names, 0)})


def dtype(number_format: str) -> torch.dtype:
    return torch.float64 if number_format == "fp64" else torch.float32


def steps_of(trainer: Trainer, number_format: str) -> list[tuple[dict[str, float], dict[str, float]]]:
    """What each step logs, and the norms of its gradients."""
    found = []
    for step in range(STEPS):
        torch.compiler.cudagraph_mark_step_begin()  # without effect but for captured networks
        logged = trainer.step(step, number_format)
        assert not trainer.updates.skipped
        norms = dict(trainer.updates.norms)
        found.append(({n: float(value) for n, value in logged.items()}, {n: float(v) for n, v in norms.items()}))
    return found


@torch.no_grad()
def made(trainer: Trainer) -> Tensor:
    """What the generator makes of the first images."""
    lr = trainer.recipe.degrade(trainer.hr(0), Draws(0, 0, 0, trainer.count, trainer.device))
    return trainer.recipe.generator.eval()(lr).double().cpu()


def assert_alike(ours: Trainer, theirs: Trainer, ours_format: str, theirs_format: str) -> None:
    of_logged, of_norm, of_pixel = TOLERANCES[ours_format]
    steps = zip(steps_of(ours, ours_format), steps_of(theirs, theirs_format), strict=True)
    for step, (mine, true) in enumerate(steps):
        for found, expected, tolerance in zip(mine, true, (of_logged, of_norm), strict=True):
            assert found.keys() == expected.keys()
            for name, value in expected.items():
                assert abs(found[name] - value) <= tolerance * max(abs(value), 0.1), (step, name, found[name], value)
    assert (made(ours) - made(theirs)).abs().mean().item() <= of_pixel


@pytest.mark.parametrize("number_format", TOLERANCES)
@pytest.mark.parametrize("recipe", recipes.names())
def test_steps_equal_those_of_a_cpu_in_float64(recipe: str, number_format: str, device: torch.device) -> None:
    ours, theirs = trained(recipe, device, number_format), trained(recipe, torch.device("cpu"), "fp64")
    assert_alike(ours, theirs, number_format, "fp64")


@pytest.mark.parametrize("recipe", ["pixelshuffle", "srez", "srgan_gp"])
def test_compiled_steps_equal_eager_ones(recipe: str, device: torch.device, compiler: str) -> None:
    assert_alike(trained(recipe, device, "fp32", compiler), trained(recipe, device, "fp32"), "fp32", "fp32")


@pytest.mark.gpu
@pytest.mark.parametrize("recipe", recipes.names())
def test_captured_steps_equal_eager_ones(recipe: str, gpu: torch.device) -> None:
    assert_alike(trained(recipe, gpu, "fp32", CAPTURING), trained(recipe, gpu, "fp32"), "fp32", "fp32")


def test_random_numbers_are_those_of_a_cpu(device: torch.device) -> None:
    here, there = (Draws(7, 3, 2, 5, where) for where in (device, "cpu"))
    assert here.uniform("mix").device.type == device.type
    torch.testing.assert_close(here.uniform("mix", 4).cpu(), there.uniform("mix", 4), rtol=0, atol=1e-6)
    torch.testing.assert_close(here.normal("noise", 3, 8).cpu(), there.normal("noise", 3, 8), rtol=0, atol=1e-5)


def test_a_step_that_overflows_in_fp16_changes_nothing_and_halves_the_scale(device: torch.device) -> None:
    trainer = trained("srez", device, "fp16")
    set_scale(trainer, 2.0**60)
    before: dict[str, Any] = copy.deepcopy(weights(trainer))
    trainer.step(0, "fp16")
    assert sorted(trainer.updates.skipped) == sorted(trainer.optimizers)
    assert all(torch.equal(value, before[name]) for name, value in weights(trainer).items())
    assert set(trainer.updates.state_dict()["scales"].values()) == {2.0**59}

    set_scale(trainer, SCALE)
    trainer.step(1, "fp16")
    assert trainer.updates.skipped == []
    assert not all(torch.equal(value, before[name]) for name, value in weights(trainer).items())


def weights(trainer: Trainer) -> dict[str, Tensor]:
    """The trainable values of all networks."""
    return {f"{n}.{name}": p for n, network in trainer.networks.items() for name, p in network.named_parameters()}
