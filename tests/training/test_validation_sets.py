"""Further validation sets of a run: named on its command line, measured beside its own held-out images."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sisr.cluster import early
from sisr.disk.journal import rows
from sisr.driver.run import execute, hosts
from sisr.driver.sweep.execute import take_up
from sisr.driver.sweep.host import trial_run
from sisr.driver.sweep.planning import plan_of, prepare
from sisr.errors import ConfigError, DataError
from sisr.pipelines import train as verb
from sisr.pipelines._options import validation_of
from sisr.sweep.state import Trial
from sisr.training.run import Options

PHOTOS = Path(__file__).parent / "recorded_run" / "photos"
OPTIONS = Options(evaluate_every=2, log_every=2, validation_side=48, threads=1, precision="fp32", perceptual="swd")
TINY = {"num_features": 4, "num_blocks": 1, "num_hr_features": 4, "batch_size": 2, "hr_crop": 32, "steps": 4}


def noise(folder: Path, count: int = 3) -> str:
    """Fill a folder with pictures unlike those that are trained on."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(7)
    for i in range(count):
        Image.fromarray(random.integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return str(folder)


def order(sets: dict[str, str], **changes: Any) -> execute.Order:
    values = TINY | {"steps": changes.pop("steps", 4)}
    return execute.Order(
        recipe="pixelshuffle",
        values=values,
        options=OPTIONS,
        data=str(PHOTOS),
        name="r",
        validation_sets=sets,
        **changes,
    )


def executed(asked: execute.Order) -> dict[str, Any]:
    return execute.execute(asked, execute.Tracking(), hosts.in_process)


@pytest.mark.slow
def test_a_set_has_its_own_curve_and_that_of_the_runs_own_images_is_theirs(
    tmp_path: Path, no_courier: None, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for name in ("photo_0.png", "photo_3.png"):
        shutil.copy(PHOTOS / name, own)
    status = executed(order({"again": str(own), "noise": noise(tmp_path / "noise")}, validation=str(own)))
    values = status["validation"]
    names = ("psnr_y", "ssim_y", "swd", "score")
    assert [values[f"val/again/{name}"] for name in names] == [values[f"val/{name}"] for name in names]
    assert values["val/noise/psnr_y"] < values["val/psnr_y"] - 1
    assert status["best"]["by"] == "val/psnr_y"
    logged = [row for row, _ in rows(Path("runs/r/outbox.jsonl")) if row and row["op"] == "metrics"]
    assert [row["step"] for row in logged if "val/noise/psnr_y" in row["values"]] == [0, 2, 4]
    shown = capsys.readouterr().err
    assert f"  noise: {values['val/noise/psnr_y']:.2f} dB PSNR-Y" in shown
    assert "2 of 2 images of validation set again are trained on, such as photo_0.png" in shown, "they are copies"
    record = json.loads(Path("runs/r/run.json").read_text())
    assert record["data"]["validation_sets"]["noise"]["images"] == 3
    assert "noise//0.png" in record["held_out"]


@pytest.mark.slow
def test_a_run_goes_on_with_a_new_set_but_names_one_whose_images_have_changed(tmp_path: Path, no_courier: None) -> None:
    sets = {"noise": noise(tmp_path / "noise")}
    executed(order(sets))
    more = sets | {"photos": str(PHOTOS)}
    values = executed(order(more, steps=6))["validation"]
    assert "val/photos/psnr_y" in values
    (tmp_path / "noise" / "1.png").unlink()
    with pytest.raises(
        DataError, match=r"differs: images of validation set noise: \+0 -1 ~0 files, e\.g\. 1\.png\. Choose"
    ):
        executed(order(more, steps=8))
    assert "val/noise/psnr_y" in executed(order(more, steps=8, allow_changes=True))["validation"]
    assert "step 6: images of validation set noise" in json.loads(Path("runs/r/run.json").read_text())["changed"][0]


def test_what_is_no_folder_and_a_set_that_is_trained_on_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match=r"validation set set5: no images at 'nowhere'"):
        execute.prepare(order({"set5": "nowhere"}))
    execute.prepare(order({"all": str(PHOTOS)}))
    assert "5 of 6 images of validation set all are trained on, such as photo_" in capsys.readouterr().err


def test_a_set_is_written_with_its_name_and_the_runs_own_without() -> None:
    Path("a=b").mkdir()
    given = ["pairs:x=y,z", "set5=/data/Set5", "faces=pairs:HR,LR"]
    assert validation_of(given) == ("pairs:x=y,z", {"set5": "/data/Set5", "faces": "pairs:HR,LR"})
    assert validation_of(["a=b"]) == ("a=b", {})
    for texts, message in (
        (["one", "two"], "are one already; further sets have names, such as --validation set5=two"),
        (["psnr_y=x"], "can't be called 'psnr_y'"),
        (["s=x", "s=y"], "s is given twice"),
    ):
        with pytest.raises(ConfigError, match=message):
            validation_of(texts)


def test_a_run_from_another_has_its_sets_and_replaces_or_drops_them_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(early, "begin", lambda address: None)
    one, other = noise(tmp_path / "one"), noise(tmp_path / "other")
    record = {"run": {"recipe": "pixelshuffle", "config": TINY, "options": OPTIONS.model_dump(), "data": str(PHOTOS)}}
    record["run"]["validation_sets"] = {"a": one, "b": one, "c": one}
    Path("runs/before").mkdir(parents=True)
    Path("runs/before/run.json").write_text(json.dumps(record))
    verb.main(from_="before", validation=[f"b={other}", "c=", f"d={one}"], local=True, dry_run=True)
    assert json.loads(capsys.readouterr().out)["run"]["validation_sets"] == {"a": one, "b": other, "d": one}


def test_trials_measure_a_sweeps_sets_and_a_changed_one_is_named(tmp_path: Path) -> None:
    sets = {"noise": noise(tmp_path / "noise")}
    asked: dict[str, Any] = {"data": str(PHOTOS), "name": "s", "validation_sets": sets, "settings": ("hr_crop=32",)}

    def planned() -> Any:
        plan, space = plan_of("pixelshuffle", **asked, options={"perceptual": "swd", "validation_side": 48})
        return *prepare(plan, space, tmp_path, 1), space

    plan, folder, data, space = planned()
    run = trial_run(plan, Trial(0, space.first(), {}))
    assert run.validation_sets == sets
    assert run.validation_fingerprints == {"noise": data.sets["noise"].fingerprint}
    take_up(plan, folder, data, allow_changes=False)
    noise(tmp_path / "noise", 4)
    plan, folder, data, _ = planned()
    with pytest.raises(DataError, match=r"sweep s exists and differs: images of validation set noise: \+1 -0 ~0 files"):
        take_up(plan, folder, data, allow_changes=False)
