"""The pixel loss that leaves where it has been: what stops a run, and what does not."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sisr import recipes
from sisr.disk.run_folder import RunFolder
from sisr.errors import DivergedError
from sisr.training.checkpoint_files import READERS
from sisr.training.guard import STREAK, WINDOW, Explosion, Guard
from sisr.training.local import train_here
from sisr.training.run import Options, Run
from sisr.training.session import NoLog, PlainSession
from two_workers import on_two_workers

TERM = "generator/pixel"
HERE = PlainSession(RunFolder(Path("unused")), torch.device("cpu"))


def fed(values: list[float], explosion: Explosion | None = None, first: int = 0) -> Explosion:
    explosion = explosion or Explosion(HERE, TERM)
    for step, value in enumerate(values, first):
        explosion.add(step, {TERM: torch.tensor(value)})
    return explosion


def test_ten_values_in_a_row_above_five_times_the_median_stop_the_run_at_the_tenth() -> None:
    explosion = fed([0.02] * 57)
    fed([0.11] * STREAK, explosion, first=57)
    with pytest.raises(DivergedError) as error:  # looked at when the next step has been started
        fed([0.02], explosion, first=67)
    for words in ("diverged at step 57", TERM, "it is 0.11 at step 66", "good steps was 0.02"):
        assert words in str(error.value)
    fed([0.11] * (STREAK - 1), fed([0.02] * 57), first=57)


def test_a_good_value_ends_a_streak() -> None:
    fed([0.02] * WINDOW + ([0.11] * (STREAK - 1) + [0.02]) * 20).settle()


def test_nothing_is_judged_before_fifty_good_values() -> None:
    fed([0.001] * 20 + [1.0] * (WINDOW - 20)).settle()


def test_exploded_values_do_not_move_the_median() -> None:
    explosion = fed([0.02] * WINDOW)
    for round_ in range(30):  # 270 large values, never ten in a row
        fed([0.5] * (STREAK - 1) + [0.02], explosion, first=100 * round_)
    with pytest.raises(DivergedError, match=r"good steps was 0\.02"):
        fed([0.5] * STREAK, explosion, first=9000).settle()


def test_a_loss_that_rises_step_by_step_is_followed() -> None:
    """An adversarial phase that begins may double the pixel loss again and again, as long as it takes its time."""
    fed([0.02 * 1.02**step for step in range(600)]).settle()


def test_a_value_that_is_not_finite_is_left_to_the_check_of_gradients() -> None:
    explosion = fed([0.02] * WINDOW + [float("nan"), float("inf")] * STREAK)
    explosion.settle()
    assert not explosion.is_open


def test_a_recipe_without_a_pixel_loss_is_not_watched() -> None:
    explosion = Explosion(HERE, TERM)
    for step in range(100):
        explosion.add(step, {"generator/perceptual": torch.tensor(10.0**step)})


def test_a_streak_is_open_from_its_first_value_on_and_continues_after_a_resume() -> None:
    explosion = fed([0.02] * WINDOW + [0.5] * 4)
    explosion.settle()
    assert explosion.is_open
    resumed = Explosion(HERE, TERM)
    resumed.load_state_dict(json.loads(json.dumps(explosion.state_dict())))
    fed([0.5] * (STREAK - 5), resumed, first=WINDOW + 4).settle()
    fed([0.5], resumed, first=WINDOW + STREAK - 1)
    with pytest.raises(DivergedError, match=f"diverged at step {WINDOW}:"):
        resumed.settle()


def test_when_it_is_settled_makes_no_difference() -> None:
    values = [0.02 + 0.01 * (step % 7) for step in range(83)] + [0.9] * 3
    often, rarely = Explosion(HERE, TERM), fed(values)
    for step, value in enumerate(values):
        fed([value], often, step).settle()
    rarely.settle()
    assert often.state_dict() == rarely.state_dict()


def mean_explodes(rank: int) -> dict[str, Any]:
    """One worker's loss alone is large: the mean of 0.02 and 0.3 is 8 x 0.02."""
    session = PlainSession(RunFolder(Path("unused")), torch.device("cpu"), rank, 2)
    explosion = Explosion(session, TERM)
    try:
        for step in range(WINDOW + STREAK):
            large = 0.3 if rank == 1 and step >= WINDOW else 0.02
            explosion.add(step, {TERM: torch.tensor(large)})
        explosion.settle()
    except DivergedError as error:
        return {"said": str(error)}
    return {"said": ""}


@pytest.mark.slow
def test_workers_decide_together_by_their_mean(tmp_path: Path) -> None:
    first, second = on_two_workers(mean_explodes, tmp_path)
    assert first == second
    assert "it is 0.16 at step 59" in first["said"]


def test_a_guard_saved_before_explosions_were_watched_still_loads() -> None:
    guard = Guard(HERE)
    guard.load_state_dict(READERS[1]({"others": {"guard": {"bad_steps": 2}}})["others"]["guard"])
    assert guard.state_dict() == {"bad_steps": 2, "good": [], "streak": 0, "began": 0}


# A small SRGAN: pixels alone first, then both. Its loss falls to a sixth before anything is done to it.
SRGAN = {
    "steps": 400,
    "pretrain_steps": 60,
    "perceptual": "none",
    "pixel_weight": 1.0,
    "pretrain_learning_rate": 3e-3,
    "learning_rate": 1e-3,
    "discriminator_learning_rate": 1e-3,
    "halve_at": [],
}


def train(folder: Path, recipe: str, evaluate_every: int = 50, /, **settings: Any) -> RunFolder:
    config = recipes.load(recipe).tiny().model_dump(mode="json") | settings
    options = Options(
        precision="fp32", evaluate_every=evaluate_every, log_every=50, threads=1, validation_side=32, perceptual="none"
    )
    run = Run(name="test", recipe=recipe, config=config, options=options, data="demo")
    found = RunFolder(folder / "run")
    train_here(run, found, NoLog())
    return found


def rate_times_3000_from(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the rate of esrgan's generator jump, as a wrong schedule would."""
    from sisr.recipes.esrgan import Recipe

    honest = Recipe.train_step

    def train_step(self: Any, lr: Tensor, hr: Tensor, draws: Any, at: int, update: Any) -> dict[str, Tensor]:
        if at == step:
            self.config = self.config.model_copy(update={"learning_rate": 3000 * self.config.learning_rate})
        return honest(self, lr, hr, draws, at, update)

    monkeypatch.setattr(Recipe, "train_step", train_step)


@pytest.mark.slow
def test_a_learning_rate_times_3000_is_caught_within_fifteen_steps_and_the_checkpoint_before_it_is_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate_times_3000_from(150, monkeypatch)
    with pytest.raises(DivergedError, match=r"diverged at step 15\d"):
        train(tmp_path, "esrgan", **SRGAN)
    folder = RunFolder(tmp_path / "run")
    assert folder.status()["state"] == "diverged"
    newest = max(path.name for path in folder.checkpoints.glob("step_*"))
    assert newest == "step_000000150"


@pytest.mark.slow
def test_an_adversarial_weight_of_1000_is_caught(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=f"{TERM} has been above 5 x its running median"):
        train(tmp_path, "esrgan", **SRGAN, adversarial_weight=1000.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "settings"),
    [
        ("esrgan", SRGAN | {"steps": 130}),
        ("esrgan", SRGAN | {"steps": 130, "adversarial_weight": 0.1}),
        ("encdec_gan", {"steps": 130, "pretrain_steps": 60, "learning_rate": 2e-3, "adversarial_weight": 0.1}),
        ("srez", {"steps": 130, "halve_every": 5000, "adversarial_weight": 0.1}),
        ("srgan_gp", {"steps": 100}),
    ],
)
def test_a_healthy_run_raises_no_alarm_also_where_its_phase_changes(
    tmp_path: Path, recipe: str, settings: dict[str, Any]
) -> None:
    folder = train(tmp_path, recipe, settings["steps"], **settings)
    assert folder.status()["state"] == "finished"
    assert folder.warnings() == []
