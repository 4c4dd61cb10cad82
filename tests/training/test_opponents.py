"""The plain loops that the platform is measured against: they must do the same work."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sisr import recipes
from sisr.training import opponents
from sisr.training.benchmark import Flops, flops_of_step

CPU = torch.device("cpu")


def store() -> Sequence[np.ndarray]:
    return [np.random.default_rng(i).integers(0, 256, (80, 72, 3), np.uint8) for i in range(3)]


def test_opponents_are_of_recipes_that_there_are() -> None:
    assert opponents.LOOPS.keys() <= set(recipes.names())


@pytest.mark.parametrize("recipe", sorted(opponents.LOOPS))
def test_a_plain_step_takes_the_same_networks_through_the_same_convolutions(recipe: str) -> None:
    module = recipes.load(recipe)
    values = module.tiny().model_dump() | ({"pretrain_steps": 0} if recipe in ("encdec_gan", "esrgan") else {})
    config = module.Config(**values)
    loop = opponents.plain_loop(recipe, config, store(), CPU, "fp32")  # type: ignore[arg-type]
    assert loop is not None
    next(loop)
    with Flops() as counted:
        next(loop)
    assert counted.total == pytest.approx(flops_of_step(module, values, CPU, config.batch_size), rel=0.02)


def test_a_recipe_from_outside_has_none() -> None:
    assert opponents.plain_loop("mine", None, store(), CPU, "fp32") is None  # type: ignore[arg-type]


def test_operations_are_counted_as_torch_counts_them() -> None:
    convolution, images = torch.nn.Conv2d(3, 5, 3, padding=1), torch.rand(2, 3, 8, 8)
    with FlopCounterMode(display=False) as theirs:
        convolution(images).sum().backward()
    with Flops() as ours:
        convolution(images).sum().backward()
    assert ours.total == theirs.get_total_flops() == 2 * 2 * 2 * 3 * 5 * 9 * 64  # forward, and the weights' gradient
