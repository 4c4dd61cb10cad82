from pathlib import Path

import pytest
import torch

from sisr.disk.run_folder import RunFolder
from sisr.errors import DivergedError
from sisr.training.guard import PATIENCE, Guard
from sisr.training.session import PlainSession

HERE = PlainSession(RunFolder(Path("unused")), torch.device("cpu"))
NO, YES = torch.tensor(0.0), torch.tensor(1.0)
LOSSES = {"generator/pixel": torch.tensor(0.1), "generator/adversarial": torch.tensor(float("nan"))}


def test_a_few_bad_steps_are_forgiven_when_a_good_one_follows() -> None:
    guard = Guard(HERE)
    for step in range(20):
        guard.check(step, {"adam": YES if step % PATIENCE else NO}, LOSSES)
    guard.is_healthy()


def test_several_in_a_row_stop_the_run_and_name_step_network_and_loss() -> None:
    guard = Guard(HERE)
    for step in range(50, 50 + PATIENCE):
        guard.check(step, {"judge_optimizer": NO, "generator_optimizer": YES}, LOSSES)
    found = r"step 52: the gradient of generator_optimizer .* 3 steps.*not finite: generator/adversarial"
    with pytest.raises(DivergedError, match=found):
        guard.check(53, {"judge_optimizer": NO, "generator_optimizer": NO}, {})


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("offset", range(PATIENCE))
def test_the_step_that_stops_a_run_is_the_same_whenever_a_checkpoint_was_due(offset: int, settled: bool) -> None:
    guard = Guard(HERE)
    for step in range(offset):
        guard.check(step, {"adam": NO}, LOSSES)
    for step in range(offset, offset + PATIENCE - 1):
        guard.check(step, {"adam": YES}, LOSSES)
        if settled:
            assert not guard.is_healthy()
    guard.check(offset + PATIENCE - 1, {"adam": YES}, LOSSES)
    with pytest.raises(DivergedError, match=f"at step {offset + PATIENCE - 1}:"):
        guard.is_healthy()


def test_the_count_survives_a_resume() -> None:
    guard, resumed = Guard(HERE), Guard(HERE)
    for step in range(PATIENCE - 1):
        guard.check(step, {"adam": YES}, LOSSES)
    assert not guard.is_healthy()
    resumed.load_state_dict(guard.state_dict())
    resumed.check(PATIENCE, {"adam": YES}, LOSSES)
    with pytest.raises(DivergedError):
        resumed.is_healthy()


def test_half_precision_may_look_longer_for_its_scale() -> None:
    guard = Guard(HERE, scaled=True)
    for step in range(PATIENCE + 5):
        guard.check(step, {"adam": YES}, LOSSES)
    assert guard.is_healthy()


def test_no_checkpoint_is_due_while_the_pixel_loss_is_far_above_its_median() -> None:
    guard = Guard(HERE)
    for step in range(60):
        guard.check(step, {"adam": NO}, {"generator/pixel": torch.tensor(0.02)})
    assert guard.is_healthy()
    guard.check(60, {"adam": NO}, {"generator/pixel": torch.tensor(0.2)})
    assert not guard.is_healthy()
    guard.check(61, {"adam": NO}, {"generator/pixel": torch.tensor(0.03)})
    assert guard.is_healthy()


def test_no_checkpoint_is_due_after_a_step_without_a_finite_gradient_but_for_the_search_of_a_scale() -> None:
    for scaled in (False, True):
        guard = Guard(HERE, scaled)
        guard.check(0, {"adam": YES}, LOSSES)
        assert guard.is_healthy() is scaled


def test_a_validation_that_is_not_a_number_names_metric_step_and_loss() -> None:
    guard = Guard(HERE)
    guard.check_validation(100, {"val/psnr_y": 28.0, "val/swd": float("inf")}, LOSSES)
    with pytest.raises(DivergedError, match=r"by step 100: val/psnr_y of the.*not finite: generator/adversarial"):
        guard.check_validation(100, {"val/psnr_y": float("nan"), "val/swd": 3.0}, LOSSES)
