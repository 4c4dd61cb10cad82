"""Learning-rate schedules against values worked out by hand and torch's own schedulers."""

import math

import pytest
import torch

from sisr.recipe import cosine, halving, set_learning_rate


def test_cosine_falls_from_one_over_a_half_to_zero() -> None:
    factors = [cosine(step, 8) for step in (0, 2, 4, 8, 9)]
    assert factors == pytest.approx([1.0, (1 + math.sqrt(0.5)) / 2, 0.5, 0.0, 0.0])


def test_cosine_equals_torch() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    for step in range(20):
        assert cosine(step, 20) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()


def test_warmup_rises_linearly_and_ends_at_one() -> None:
    assert [cosine(step, 12, warmup=4) for step in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_halving_halves_after_every_so_many_steps() -> None:
    assert [halving(step, 5) for step in (0, 4, 5, 9, 10)] == [1.0, 1.0, 0.5, 0.5, 0.25]


def test_the_rate_is_set_for_every_parameter() -> None:
    weights = [torch.zeros(1, requires_grad=True) for _ in range(2)]
    optimizer = torch.optim.Adam(weights[:1], lr=0.1)
    optimizer.add_param_group({"params": weights[1:], "lr": 0.5})
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]
