import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sisr.disk.run_folder import RunFolder
from sisr.errors import CheckpointError
from sisr.training.checkpoint import Checkpoints
from sisr.training.digest import digest
from sisr.training.session import PlainSession
from sisr.training.state import TrainingState, assert_equal_on_all_workers, assert_same_start, seed_everything
from two_workers import on_two_workers

HERE = PlainSession(RunFolder(Path("unused")), torch.device("cpu"))


class Counter:
    def __init__(self, count: int = 0) -> None:
        self.count = count

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["count"]


def build(width: int = 2) -> TrainingState:
    network = nn.Conv2d(2, width, 3).to(memory_format=torch.channels_last)
    adam = torch.optim.Adam(network.parameters(), 0.1, fused=True)
    return TrainingState({"network": network, "adam": adam}, nn.Linear(2, 2), {"counter": Counter()})


def moved(state: TrainingState) -> None:
    adam = state.parts["adam"]
    assert isinstance(adam, torch.optim.Optimizer)
    for parameter in weights(state):
        parameter.grad = torch.ones_like(parameter)
    adam.step()


def weights(state: TrainingState) -> list[nn.Parameter]:
    network = state.parts["network"]
    assert isinstance(network, nn.Module)
    return list(network.parameters())


def advanced() -> TrainingState:
    state = build()
    network, adam = state.parts["network"], state.parts["adam"]
    assert isinstance(network, nn.Module)
    assert isinstance(adam, torch.optim.Optimizer)
    network(torch.randn(1, 2, 5, 5)).sum().backward()
    adam.step()
    state.step, state.best, state.others["counter"] = 7, {"step": 5, "val/psnr_y": 30.5}, Counter(3)
    return state


def test_everything_captured_comes_back() -> None:
    saved = advanced().capture(HERE)
    fresh = build()
    fresh.restore(saved, HERE)
    assert digest(fresh.capture(HERE)) == digest(saved)
    assert (fresh.step, fresh.best) == (7, {"step": 5, "val/psnr_y": 30.5})


def test_a_captured_state_does_not_change_when_training_goes_on() -> None:
    state = advanced()
    saved = state.capture(HERE)
    before = digest(saved)
    network = state.parts["network"]
    assert isinstance(network, nn.Module)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    assert digest(saved) == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_state_is_copied_from_a_gpu_while_training_goes_on_there(tmp_path: Path) -> None:
    network = nn.Conv2d(64, 64, 3, device="cuda").to(memory_format=torch.channels_last)
    adam = torch.optim.Adam(network.parameters(), 0.1, fused=True)
    state = TrainingState({"network": network, "adam": adam}, nn.Linear(2, 2, device="cuda"), {})
    network(torch.randn(1, 64, 9, 9, device="cuda")).sum().backward()
    adam.step()
    before = {name: value.cpu() for name, value in network.state_dict().items()}
    saved = state.capture(HERE)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.begin(1, saved, lambda folder: None, {})
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    assert checkpoints.finish()
    _, loaded = checkpoints.newest()  # type: ignore[misc]
    assert digest(loaded["parts"]["network"]) == digest(before)
    assert saved["parts"]["network"]["weight"].is_pinned()


def test_the_global_random_generators_go_on_where_they_stopped() -> None:
    seed_everything(3)
    saved = build().capture(HERE)
    expected = (random.random(), np.random.random(), torch.rand(1).item())
    seed_everything(4)
    build().restore(saved, HERE)
    assert (random.random(), np.random.random(), torch.rand(1).item()) == expected


def test_a_state_loads_without_running_code(tmp_path: Path) -> None:
    saved = advanced().capture(HERE)
    torch.save(saved, tmp_path / "state.pt")
    assert digest(torch.load(tmp_path / "state.pt", weights_only=True)) == digest(saved)


def test_moments_take_the_layout_of_their_parameter() -> None:
    saved = advanced().capture(HERE)
    for moments in saved["parts"]["adam"]["state"].values():
        for name in ("exp_avg", "exp_avg_sq"):
            moments[name] = moments[name].contiguous()
    fresh = build()
    fresh.restore(saved, HERE)
    adam = fresh.parts["adam"]
    assert isinstance(adam, torch.optim.Optimizer)
    for parameter, moments in adam.state.items():
        assert moments["exp_avg"].stride() == parameter.stride()


def test_what_an_optimizer_that_was_not_fused_has_saved_goes_on_with_one_that_is() -> None:
    plain, fused = build(), build()
    for group in plain.parts["adam"].param_groups:  # type: ignore[union-attr]
        group["fused"] = None
    moved(plain)
    fused.restore(plain.capture(HERE), HERE)
    moved(plain)
    moved(fused)
    for one, other in zip(weights(plain), weights(fused), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_networks_of_another_shape_are_refused_by_name() -> None:
    saved = advanced().capture(HERE)
    with pytest.raises(CheckpointError, match="does not fit 'network'"):
        build(width=3).restore(saved, HERE)


def disagree(rank: int) -> list[str]:
    session = PlainSession(RunFolder(Path("unused")), torch.device("cpu"), rank, 2)
    messages = []
    for check in (lambda: assert_equal_on_all_workers({"x": rank}, session), lambda: assert_same_start(rank, session)):
        try:
            check()
        except CheckpointError as error:
            messages.append(str(error))
    assert_equal_on_all_workers({"x": 1}, session)
    assert_same_start(5, session)
    return messages


@pytest.mark.slow
def test_workers_that_disagree_notice_it_all_together(tmp_path: Path) -> None:
    first, second = on_two_workers(disagree, tmp_path)
    assert first == second
    assert "workers hold different states" in first[0]
    assert "they would start at steps [0, 1]" in first[1]
