"""How the loop ends where something is wrong with its last step, its folder or its images."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import outside_recipe
from sisr import recipes
from sisr.disk.run_folder import RunFolder
from sisr.errors import DiskError, DivergedError
from sisr.models.files import save_model
from sisr.training import loop
from sisr.training.local import train_here
from sisr.training.run import Options, Run
from sisr.training.session import NoLog, PlainSession
from sisr.training.validate import Validation

PHOTOS = Path(__file__).parent / "recorded_run" / "photos"
LOSS = "        loss = pixel.l1(self.generator(lr), hr)\n"
STEPS = 5


@pytest.fixture(autouse=True)
def cache(session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SISR_CACHE", str(session_cache))


def run(spoiled: str = "False") -> Run:
    """A run of five steps, of which those have no finite gradient for which `spoiled` is true."""
    text = outside_recipe.text()
    assert LOSS in text
    text = text.replace(LOSS, f"{LOSS}        loss = loss * (float('nan') if {spoiled} else 1.0)\n")
    config = {"scale": 2, "batch_size": 2, "steps": STEPS, "hr_crop": 16, "num_features": 4}
    options = Options(precision="fp32", threads=1, evaluate_every=2, validation_side=24, perceptual="none", log_every=1)
    return Run(name="t", recipe="espcn", recipe_source=text, config=config, options=options, data=str(PHOTOS))


def test_a_run_whose_last_step_was_skipped_ends_there_with_its_validation(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    status = train_here(run("step == 4"), folder, NoLog())
    assert (status["state"], status["step"]) == ("finished", STEPS)
    meta: Any = json.loads((folder.model / "config.json").read_text())
    assert meta["step"] == STEPS
    assert meta["metrics"]["val/psnr_y"] == status["validation"]["val/psnr_y"]
    assert (folder.checkpoints / f"step_{STEPS:09d}").is_dir()  # the same command finds nothing left to do
    (line,) = folder.warnings()
    assert line.startswith("the last step, 5, was not a good one")


@pytest.mark.parametrize(("spoiled", "kept"), [("True", "There is no checkpoint yet"), ("step > 1", "step_000000002")])
def test_a_run_that_diverges_says_which_checkpoint_is_left(tmp_path: Path, spoiled: str, kept: str) -> None:
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(DivergedError, match=kept):
        train_here(run(spoiled), folder, NoLog())
    assert kept in folder.status()["message"]


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("at", [3, 4], ids=["between evaluations", "at an evaluation"])
def test_a_run_whose_folder_is_moved_stops_and_writes_nothing_more(tmp_path: Path, replaced: bool, at: int) -> None:
    path = tmp_path / "run"

    class Moves(NoLog):
        def metrics(self, step: int, values: dict[str, float]) -> None:
            if step == at and not (tmp_path / "elsewhere").exists():
                while not (path / "best.json").exists():  # a thread writes the checkpoint of step 2, then this
                    time.sleep(0.01)
                path.rename(tmp_path / "elsewhere")
                if replaced:
                    path.mkdir()

    with pytest.raises(DiskError, match="was moved, removed or replaced"):
        train_here(run(), RunFolder(path), Moves())
    assert path.exists() == replaced
    assert not replaced or list(path.iterdir()) == []
    assert [f.name for f in (tmp_path / "elsewhere/checkpoints").iterdir()] == ["step_000000002"]


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained_on = threading.Event()

    def slow(path: Path, *given: Any) -> None:
        assert trained_on.wait(60)  # until the step after the checkpoint's
        save_model(path, *given)

    class Notes(NoLog):
        def metrics(self, step: int, values: dict[str, float]) -> None:
            if step == 3:
                assert not list((tmp_path / "run" / "checkpoints").glob("step_*"))
                trained_on.set()

    monkeypatch.setattr(loop, "save_model", slow)
    folder = RunFolder(tmp_path / "run")
    assert train_here(run(), folder, Notes())["state"] == "finished"
    assert [f.name for f in sorted(folder.checkpoints.iterdir())] == ["step_000000004", "step_000000005"]


class Counted(list[np.ndarray]):
    """Images that know how often each was asked for."""

    def __init__(self, images: list[np.ndarray]) -> None:
        super().__init__(images)
        self.asked: list[int] = []

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        self.asked.append(index)
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[np.ndarray]:
        raise AssertionError("all images at once")


def test_validation_holds_a_bounded_part_of_the_images_and_measures_the_same(tmp_path: Path) -> None:
    recipe = recipes.load("pixelshuffle").Recipe(recipes.load("pixelshuffle").tiny())
    scale = recipe.generator.tiling.scale
    random = np.random.default_rng(0)
    images = Counted([random.integers(0, 256, (8 * scale, 8 * scale, 3), dtype=np.uint8) for _ in range(5)])
    session = PlainSession(RunFolder(tmp_path), torch.device("cpu"))
    given = (recipe, session, torch.float32, "none", 8 * scale)
    whole = Validation(images, *given)
    everything = whole(recipe.generator)
    assert images.asked == [0, 1, 2, 3, 4]  # kept
    one_image = (2 * (8 * scale) ** 2 + 8**2) * 3 * 4  # bytes of hr, bicubic and lr
    bounded = Validation(images, *given, kept_bytes=2 * one_image)
    assert bounded(recipe.generator) == everything
    assert bounded.baseline == whole.baseline
    assert images.asked[5:] == [0, 1, 2, 3, 4, 2, 3, 4]
