import pytest
import torch

from sisr.errors import DivergedError
from sisr.training.guard import PATIENCE, Guard

LOSSES = {"generator/pixel": torch.tensor(0.1), "generator/adversarial": torch.tensor(float("nan"))}


def test_a_few_bad_steps_are_forgiven_when_a_good_one_follows() -> None:
    guard = Guard()
    for step in range(20):
        guard.check(step, ["adam"] if step % PATIENCE else [], LOSSES)


def test_several_in_a_row_stop_the_run_and_name_step_network_and_loss() -> None:
    guard = Guard()
    for step in range(50, 50 + PATIENCE - 1):
        guard.check(step, ["generator_optimizer"], LOSSES)
    with pytest.raises(DivergedError, match=r"step 52.*generator_optimizer.*not finite: generator/adversarial"):
        guard.check(52, ["generator_optimizer"], LOSSES)


def test_the_count_survives_a_resume() -> None:
    guard, resumed = Guard(), Guard()
    for step in range(PATIENCE - 1):
        guard.check(step, ["adam"], LOSSES)
    resumed.load_state_dict(guard.state_dict())
    with pytest.raises(DivergedError):
        resumed.check(PATIENCE, ["adam"], LOSSES)


def test_half_precision_may_look_longer_for_its_scale() -> None:
    guard = Guard(scaled=True)
    for step in range(PATIENCE + 5):
        guard.check(step, ["adam"], LOSSES)
