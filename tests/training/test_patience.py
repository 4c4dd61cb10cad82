"""Runs that end by themselves when evaluations no longer get better."""

from pathlib import Path
from typing import Any

import pytest

import outside_recipe
from sisr.disk.run_folder import RunFolder
from sisr.driver.run.record import is_finished
from sisr.training.local import train_here
from sisr.training.run import Options, Run
from sisr.training.session import NoLog
from sisr.training.state import TrainingState

PHOTOS = Path(__file__).parent / "recorded_run" / "photos"
STEPS = 12


@pytest.fixture(autouse=True)
def cache(session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SISR_CACHE", str(session_cache))


def run(patience: int | None = 2) -> Run:
    """A run that is evaluated every step, and whose weights get worse with each."""
    text = outside_recipe.text()
    worse = "        loss = pixel.l1(self.generator(lr), hr)\n"
    assert worse in text
    text = text.replace(worse, worse + "        loss = -loss\n")
    config = {"scale": 2, "batch_size": 2, "steps": STEPS, "hr_crop": 16, "num_features": 4}
    options = Options(
        precision="fp32",
        threads=1,
        evaluate_every=1,
        validation_side=24,
        perceptual="none",
        patience=patience,
        log_every=1,
        ema_half_life_images=0,
    )
    return Run(name="t", recipe="espcn", recipe_source=text, config=config, options=options, data=str(PHOTOS))


def test_a_run_ends_when_its_patience_is_gone_says_why_and_keeps_the_best_checkpoint(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    status = train_here(run(), folder, NoLog())
    assert (status["state"], status["step"]) == ("finished", 3)
    assert status["message"].startswith(
        "ended by itself at step 3 of 12: 2 evaluations without a better val/psnr_y than"
    )
    assert "at step 1, whose checkpoint is kept" in status["message"]
    assert (folder.checkpoints / "step_000000001").is_dir()
    assert folder.model.is_dir()
    assert is_finished(run(), folder)
    assert not is_finished(run(patience=3), folder)


def test_a_run_that_was_stopped_meanwhile_ends_at_the_same_step_in_the_same_state(tmp_path: Path) -> None:
    whole, stopped = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "stopped")

    class Stops(NoLog):
        def metrics(self, step: int, values: dict[str, float]) -> None:
            if step == 2:
                stopped.request_stop()

    train_here(run(), whole, NoLog())
    assert train_here(run(), stopped, Stops())["state"] == "stopped"
    stopped.clear_stop()
    status = train_here(run(), stopped, NoLog())
    assert (status["state"], status["step"]) == ("finished", 3)
    manifests = [(f.checkpoints / "step_000000003" / "manifest.json").read_text() for f in (whole, stopped)]
    digests = [text.partition('"digest": ')[2][:70] for text in manifests]
    assert digests[0] == digests[1]


def test_a_run_that_was_killed_before_it_was_published_is_only_published(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    train_here(run(), folder, NoLog())
    for path in folder.model.iterdir():
        path.unlink()
    folder.model.rmdir()
    assert train_here(run(), folder, NoLog())["step"] == 3
    assert folder.model.is_dir()
    assert train_here(run(patience=4), folder, NoLog())["step"] == 5


def test_only_worse_validations_cost_patience() -> None:
    state = TrainingState({}, None, {})  # type: ignore[arg-type]
    seen: list[Any] = []
    for step, psnr in enumerate([20.0, 20.0, 19.0, 19.5, 21.0, 20.0]):
        state.judge(step, "val/psnr_y", {"val/psnr_y": psnr}, kept=step > 0)
        seen.append((state.best.get("step"), state.unimproved))
    assert seen == [(None, 0), (1, 0), (1, 1), (1, 2), (4, 0), (4, 1)]
