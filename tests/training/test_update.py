from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sisr.errors import ConfigError
from sisr.training import update
from sisr.training.rehearsal import different
from sisr.training.update import Updates
from two_workers import on_two_workers


def linear(seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(3, 2).to(dtype)


def test_a_step_equals_torchs_own_backward_and_step() -> None:
    x = torch.randn(5, 3, dtype=torch.float64)
    ours, theirs = linear(), linear()
    adam, reference = torch.optim.Adam(ours.parameters(), 0.1), torch.optim.Adam(theirs.parameters(), 0.1)
    updates = Updates({"adam": adam})
    for _ in range(3):
        updates.begin()
        updates(adam, ours(x).square().mean())
        reference.zero_grad()
        theirs(x).square().mean().backward()
        reference.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


def test_only_the_optimizers_own_parameters_move_or_hold_gradients() -> None:
    generator, judge = linear(0), linear(1)
    sgd = torch.optim.SGD(generator.parameters(), 0.1)
    updates = Updates({"sgd": sgd})
    before = [p.clone() for p in judge.parameters()]
    updates.begin()
    updates(sgd, judge(torch.cat([generator(torch.ones(1, 3, dtype=torch.float64)), torch.ones(1, 1)], 1)).mean())
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, judge.parameters(), strict=True))
    assert not torch.equal(linear(0).weight, generator.weight)


def test_a_kept_graph_serves_a_second_loss() -> None:
    first, second = linear(0), linear(1)
    a, b = torch.optim.SGD(first.parameters(), 0.1), torch.optim.SGD(second.parameters(), 0.1)
    updates = Updates({"a": a, "b": b})
    shared = second(torch.cat([first(torch.ones(1, 3, dtype=torch.float64)), torch.ones(1, 1)], 1))
    updates.begin()
    updates(a, shared.mean(), retain_graph=True)
    updates(b, shared.square().mean())
    assert not torch.equal(linear(1).weight, second.weight)


def fused_adam(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(network.parameters(), 0.1, fused=True)


def amsgrad(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(network.parameters(), 0.1, amsgrad=True, fused=True)


def plain_adam(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(network.parameters(), 0.1)


def fused_momentum(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, dampening=0.5, fused=True)


def plain_sgd(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), 0.1)


def nadam(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.NAdam(network.parameters(), 0.1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("build", [fused_adam, amsgrad, plain_adam, fused_momentum, plain_sgd, nadam])
@pytest.mark.parametrize("skipped", [{0}, {2, 3}])
def test_a_step_without_a_finite_gradient_is_as_if_it_had_not_been(
    build: Callable[[nn.Module], torch.optim.Optimizer], bad: float, skipped: set[int]
) -> None:
    ours, theirs = linear(), linear()
    optimizer, reference = build(ours), build(theirs)
    updates = Updates({"o": optimizer})
    x = torch.randn(5, 3, dtype=torch.float64)
    for step in range(6):
        updates.begin()
        updates(optimizer, ours(x).square().mean() * (bad if step in skipped else 1.0))
        assert updates.skipped == (["o"] if step in skipped else [])
        if step not in skipped:
            reference.zero_grad()
            theirs(x).square().mean().backward()
            reference.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not different(optimizer.state_dict()["state"], reference.state_dict()["state"])


def test_an_optimizer_that_counts_on_the_host_skips_its_steps_too() -> None:
    class Counts(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            for group in self.param_groups:
                for p in group["params"]:
                    self.state[p]["steps"] = self.state[p].get("steps", 0) + 1

    network = linear()
    counts = Counts(network.parameters(), 0.1)
    updates = Updates({"o": counts})
    for factor in (1.0, float("nan"), 1.0):
        updates.begin()
        updates(counts, network.weight.sum() * factor)
    assert [state["steps"] for state in counts.state.values()] == [2, 2]


def test_of_several_updates_of_one_optimizer_one_bad_one_counts() -> None:
    network = linear()
    updates = Updates({"o": (adam := fused_adam(network))})
    updates.begin()
    for factor in (float("nan"), 1.0):
        updates(adam, network.weight.sum() * factor)
    assert updates.skipped == ["o"]
    assert not torch.equal(network.weight, linear().weight)
    updates.begin()
    assert updates.skipped == []


def test_clipping_leaves_the_direction_and_limits_the_norm() -> None:
    network = linear()
    sgd = torch.optim.SGD(network.parameters(), 1.0)
    updates = Updates({"sgd": sgd}, clip_norm=0.5)
    x = torch.randn(4, 3, dtype=torch.float64) * 100
    reference = linear()
    reference(x).square().mean().backward()
    nn.utils.clip_grad_norm_(reference.parameters(), 0.5)
    updates.begin()
    updates(sgd, network(x).square().mean())
    for new, old in zip(network.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(old.detach() - new.detach(), old.grad, rtol=1e-9, atol=1e-9)


def test_parameters_that_share_one_gradient_tensor_are_each_scaled_once() -> None:
    a, b = (nn.Parameter(torch.zeros(3)) for _ in range(2))
    sgd = torch.optim.SGD([a, b], 1.0)
    updates = Updates({"sgd": sgd}, clip_norm=6**0.5 / 2)  # half of the norm of six ones
    updates.begin()
    updates(sgd, (a + b).sum())
    torch.testing.assert_close(a.detach(), torch.full((3,), -0.5))
    torch.testing.assert_close(b.detach(), torch.full((3,), -0.5))


def test_the_norm_is_logged_before_clipping() -> None:
    network = linear()
    sgd = torch.optim.SGD(network.parameters(), 1.0)
    updates = Updates({"sgd": sgd}, clip_norm=1e-3)
    updates.begin()
    updates(sgd, network.weight.sum())
    assert updates.norms["sgd"].item() == pytest.approx(6**0.5)  # six ones


def test_accumulated_micro_batches_step_like_the_whole_batch() -> None:
    x = torch.randn(8, 3, dtype=torch.float64)
    whole, parts = linear(), linear()
    one, many = torch.optim.Adam(whole.parameters(), 0.1), torch.optim.Adam(parts.parameters(), 0.1)
    single, split = Updates({"a": one}), Updates({"a": many}, accumulate=4)
    for _ in range(2):
        single.begin()
        single(one, whole(x).square().mean())
        for micro, share in enumerate(x.split(2)):
            split.begin(micro)
            split(many, parts(share).square().mean())
    torch.testing.assert_close(whole.weight, parts.weight, rtol=1e-12, atol=1e-12)


def test_accumulation_refuses_a_recipe_that_updates_one_optimizer_twice() -> None:
    network = linear()
    sgd = torch.optim.SGD(network.parameters(), 1.0)
    updates = Updates({"generator_optimizer": sgd}, accumulate=2)
    updates.begin(0)
    updates(sgd, network.weight.sum())
    with pytest.raises(ConfigError, match="generator_optimizer is updated several times"):
        updates(sgd, network.weight.sum())


def test_the_loss_scale_is_halved_by_an_overflow_and_leaves_the_step_unchanged() -> None:
    network, plain = linear(), linear()
    scaled_sgd, sgd = torch.optim.SGD(network.parameters(), 0.1), torch.optim.SGD(plain.parameters(), 0.1)
    scaled, reference = Updates({"sgd": scaled_sgd}, scaled=True), Updates({"sgd": sgd})
    before = scaled.state_dict()["scales"]["sgd"]
    scaled.begin()
    scaled(scaled_sgd, network.weight.sum() * float("inf"))
    assert scaled.state_dict()["scales"]["sgd"] == before / 2
    for updates, optimizer, net in ((scaled, scaled_sgd, network), (reference, sgd, plain)):
        updates.begin()
        updates(optimizer, net.weight.square().sum())
    torch.testing.assert_close(network.weight, plain.weight, rtol=1e-12, atol=1e-12)


def test_the_loss_scale_doubles_after_two_thousand_good_steps_and_is_never_below_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(update, "GROWTH_INTERVAL", 3)
    network = linear()
    updates = Updates({"o": (sgd := plain_sgd(network))}, scaled=True)
    scales = []
    for factor in (1.0, 1.0, float("inf"), 1.0, 1.0, 1.0, 1.0):
        updates.begin()
        updates(sgd, network.weight.sum() * factor)
        scales.append(updates.state_dict()["scales"]["o"] / update.INITIAL_SCALE)
    assert scales == [1, 1, 0.5, 0.5, 0.5, 1, 1]
    assert updates.state_dict()["good_steps"] == {"o": 4}
    for _ in range(20):
        updates.begin()
        updates(sgd, network.weight.sum() * float("inf"))
    assert updates.state_dict() == {"scales": {"o": 1.0}, "good_steps": {"o": 0}}
    resumed = Updates({"o": sgd}, scaled=True)
    resumed.load_state_dict(updates.state_dict())
    assert resumed.state_dict() == updates.state_dict()


BATCH = torch.arange(24, dtype=torch.float64).reshape(8, 3).sin()


def twenty_steps(rank: int, world: int = 2) -> tuple[nn.Linear, Updates, torch.optim.Optimizer]:
    network = linear()
    adam = torch.optim.Adam(network.parameters(), 0.1)
    updates = Updates({"adam": adam}, world=world)
    for _ in range(20):
        updates.begin()
        updates(adam, network(BATCH.chunk(world)[rank]).square().mean())
    return network, updates, adam


def twenty_steps_then_a_nan_on_one_worker(rank: int) -> dict[str, Any]:
    network, updates, adam = twenty_steps(rank)
    updates.begin()
    updates(adam, network.weight.sum() * (float("nan") if rank == 0 else 1.0))
    return {"weight": network.weight.detach(), "skipped": updates.skipped}


@pytest.mark.slow
def test_two_workers_step_like_one_and_agree_on_what_to_skip(tmp_path: Path) -> None:
    first, second = on_two_workers(twenty_steps_then_a_nan_on_one_worker, tmp_path)
    assert torch.equal(first["weight"], second["weight"])
    assert first["skipped"] == second["skipped"] == ["adam"]
    alone, _, _ = twenty_steps(0, world=1)
    torch.testing.assert_close(alone.weight.detach(), first["weight"], rtol=0, atol=1e-12)
