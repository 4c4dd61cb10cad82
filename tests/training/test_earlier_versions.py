"""What earlier versions have written goes on: a run that commit f4c7f3e stopped half-way, as it left it.

`recorded_run/half` is `sisr train pixelshuffle` on `recorded_run/photos`, two channels wide, stopped at step 4 of 8.
"""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from sisr import recipes
from sisr.disk.run_folder import RunFolder
from sisr.driver.run import record
from sisr.errors import CheckpointError, ConfigError
from sisr.models import model
from sisr.training import origin
from sisr.training.checkpoint import Checkpoints
from sisr.training.checkpoint_files import FORMAT, MANIFEST, STATE, load_state
from sisr.training.dataset import TrainingData
from sisr.training.local import train_here
from sisr.training.run import Options, Run, read
from sisr.training.session import NoLog

RECORDED = Path(__file__).parent / "recorded_run"


@pytest.fixture(autouse=True)
def cache(session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SISR_CACHE", str(session_cache))


def half(folder: Path) -> tuple[RunFolder, Run]:
    """A copy of the recorded run, and the run that its record describes."""
    shutil.copytree(RECORDED / "half", folder)
    run = read(RunFolder(folder))
    assert run is not None
    return RunFolder(folder), run.model_copy(update={"data": str(RECORDED / "photos")})


def test_a_run_of_an_earlier_version_goes_on_to_its_end(tmp_path: Path) -> None:
    folder, run = half(tmp_path / "half")
    status = train_here(run, folder, NoLog())
    assert (status["state"], status["step"]) == ("finished", 8)
    straight = RunFolder(tmp_path / "straight")
    train_here(run, straight, NoLog())
    ours, theirs = (load_state(f.checkpoints / "step_000000008") for f in (folder, straight))
    assert folder.warnings() == []
    for name, value in theirs["ema"].items():
        assert torch.allclose(ours["ema"][name], value, atol=1e-5), name
    manifest = json.loads((folder.checkpoints / "step_000000008" / MANIFEST).read_text())
    assert manifest["format"] == FORMAT == 4
    assert (ours["draws"], theirs["draws"]) == (1, 2), "it goes on with the random numbers that it began with"


def test_the_model_of_an_earlier_version_enlarges(tmp_path: Path) -> None:
    found = model.load_model(RECORDED / "half" / "checkpoints" / "step_000000004")
    sr = found.generator(torch.full((1, 3, 8, 8), 0.5))
    assert sr.shape == (1, 3, 16, 16)
    assert float(sr.detach().mean()) == pytest.approx(0.5, abs=0.05)


def test_a_checkpoint_of_an_earlier_version_is_known_as_its_runs(tmp_path: Path) -> None:
    folder, run = half(tmp_path / "half")
    checkpoints = Checkpoints(folder.checkpoints)
    assert origin.differences(checkpoints, run) == []
    other = run.model_copy(update={"config": {**run.config, "learning_rate": 5e-2, "steps": 99}})
    assert origin.differences(checkpoints, other) == ["learning_rate 0.0002 -> 0.05"]
    assert origin.differences(checkpoints, run.model_copy(update={"fingerprint": "0"})) == ["other images"]


def test_a_checkpoint_of_a_later_version_is_refused_by_its_number(tmp_path: Path) -> None:
    folder, _ = half(tmp_path / "half")
    path = folder.checkpoints / "step_000000004"
    manifest = json.loads((path / MANIFEST).read_text())
    (path / MANIFEST).write_text(json.dumps({**manifest, "format": 5}))
    assert STATE in manifest["files"]
    with pytest.raises(CheckpointError, match="has format 5, this version reads 1, 2, 3, 4: use a newer sisr"):
        load_state(path)


def test_a_record_of_a_later_version_is_refused_by_its_number(tmp_path: Path) -> None:
    folder, _ = half(tmp_path / "half")
    record = json.loads(folder.run.read_text())
    record["run"]["format"] = 2
    folder.run.write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match=r"run.json has format 2, this version reads 1: use a newer sisr"):
        read(folder)


def test_an_extended_runs_jump_of_the_learning_rate_is_said(tmp_path: Path) -> None:
    folder, run = half(tmp_path / "half")
    longer = run.model_copy(update={"config": {**run.config, "steps": 400}, "options": run.options})
    folder.request_stop()
    train_here(longer, folder, NoLog())
    folder.clear_stop()
    assert folder.warnings() == []  # no step was taken

    class Stops(NoLog):
        def metrics(self, step: int, values: dict[str, float]) -> None:
            folder.request_stop()

    train_here(longer, folder, Stops())
    (line,) = folder.warnings()
    assert line.startswith("the learning rate of generator_optimizer jumps from 0.000")
    assert line.endswith("its schedule was made for 8 steps and is now stretched over 400")


def test_checkpoints_whose_record_is_lost_go_on_with_the_same_settings_only(tmp_path: Path) -> None:
    folder, run = half(tmp_path / "half")
    data = cast(TrainingData, SimpleNamespace(facts={}, hashes={}, held_out=[]))
    other = run.model_copy(update={"config": {**run.config, "learning_rate": 5e-2}})
    folder.run.unlink()
    told = r"holds checkpoints of another run: learning_rate 0.0002 -> 0.05. Choose another --name"
    with pytest.raises(ConfigError, match=told):
        record.take_up(other, folder, data, allow_changes=False)
    assert not folder.run.exists()
    assert record.take_up(run, folder, data, allow_changes=False)
    folder.run.unlink()
    assert record.take_up(other, folder, data, allow_changes=True)


# As commit 11fcfe4 computes them for `tiny()`: runs without a name are found again by them.
HASHES = {
    "pixelshuffle": "b87c2c0c",
    "srresnet": "2af58933",
    "srgan_gp": "31912f50",
    "encdec_gan": "15ef2d30",
    "srez": "604f9322",
    "esrgan": "8da351bd",
}


@pytest.mark.parametrize(("recipe", "expected"), HASHES.items())
def test_a_run_without_a_name_is_called_as_it_was(recipe: str, expected: str) -> None:
    config = recipes.load(recipe).tiny().model_dump(mode="json")
    run = Run(name="x", recipe=recipe, config=config, options=Options(), data="demo", fingerprint="f")
    assert run.config_hash == expected
    if "degradation" in config:
        changed = run.model_copy(update={"config": {**config, "degradation": {"kind": "area"}}})
        assert changed.config_hash != expected
