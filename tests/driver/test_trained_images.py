"""Which images a model was trained on: known by their content, from the records of its run."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sisr import recipes
from sisr.data.sources.demo import open_demo
from sisr.driver import demo, registration_gate
from sisr.driver.run import execute, hosts
from sisr.evaluation import images
from sisr.evaluation.images import Learned, of_folder, trained_on, warnings
from sisr.training.run import Options


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of twelve images, of which one is held out."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(12):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    return folder


@pytest.fixture
def run(tmp_path: Path, photos: Path) -> Path:
    """The folder of a run on them that recorded what it held out."""
    folder = tmp_path / "runs" / "r"
    (folder / "model").mkdir(parents=True)
    hashes = {path.name: sha256(path) for path in photos.iterdir()}
    (folder / "files.json").write_text(json.dumps(hashes))
    (folder / "run.json").write_text(json.dumps({"run": {"data": str(photos)}, "held_out": ["03.png", "07.png"]}))
    return folder


@pytest.mark.parametrize("place", [".", "model", "checkpoints/step_000000010"])
def test_the_images_of_a_run_are_found_from_its_models_and_checkpoints(run: Path, photos: Path, place: str) -> None:
    expected = {sha256(path) for path in photos.iterdir() if path.name not in ("03.png", "07.png")}
    assert of_folder(run / place) == Learned({"data": str(photos)}, expected)


def test_a_run_that_recorded_no_split_is_split_again(run: Path, photos: Path) -> None:
    old = {"run": {"data": str(photos)}}
    (run / "run.json").write_text(json.dumps(old))
    found = of_folder(run)
    assert found.sha256s is not None
    assert len(found.sha256s) == 11
    assert trained_on({"run": {"data": "/gone"}}, {"a.png": "00"}) is None


def test_a_trials_images_are_those_of_its_sweep(run: Path, tmp_path: Path) -> None:
    trial = tmp_path / "sweep" / "trials" / "0001"
    trial.mkdir(parents=True)
    shutil.copy(run / "run.json", trial)
    shutil.copy(run / "files.json", tmp_path / "sweep")
    assert of_folder(trial) == of_folder(run)


def test_a_model_of_which_nothing_is_known_gives_no_warning(tmp_path: Path, photos: Path) -> None:
    assert of_folder(tmp_path).sha256s is None
    assert warnings({"x": of_folder(tmp_path)}, images.find(str(photos))) == []


def test_whoever_judges_a_model_on_its_own_images_is_warned_whatever_they_are_called(run: Path, photos: Path) -> None:
    for path in list(photos.iterdir()):
        path.rename(photos / f"renamed_{path.name}")
    (line,) = warnings({"r": of_folder(run / "model")}, images.find(str(photos)))
    assert line.startswith(
        "r was trained on 10 of these 12 images (renamed_00.png, renamed_01.png, renamed_02.png, ...)"
    )
    for path in photos.iterdir():
        if path.name not in ("renamed_03.png", "renamed_07.png"):
            path.unlink()
    assert warnings({"r": of_folder(run / "model")}, images.find(str(photos))) == []


def test_a_crop_is_known_by_the_photograph_that_it_says_it_was_cut_from(
    run: Path, photos: Path, tmp_path: Path
) -> None:
    crops = tmp_path / "crops"
    crops.mkdir()
    for name in ("00.png", "03.png"):
        text = PngInfo()
        text.add_text(images.CUT_FROM, sha256(photos / name))
        with Image.open(photos / name) as photo:
            photo.crop((2, 2, 18, 18)).save(crops / name, pnginfo=text)
    (line,) = warnings({"r": of_folder(run / "model")}, images.find(str(crops)))
    assert line.startswith("r was trained on 1 of these 2 images (00.png)"), "03.png was held out"


def test_the_crops_of_the_demo_name_their_photographs(tmp_path: Path) -> None:
    photos = {sha256(file.path): Path(file.name).stem for file in open_demo().held_out}
    for folder in demo.write_crops(tmp_path):
        files = images.find(str(folder))
        origins = images.cut_from(files)
        assert {file.name: file.name.split("_")[0] for file in files} == {n: photos[o] for n, o in origins.items()}


@pytest.mark.parametrize("name", recipes.names())
def test_which_recipes_are_judged_by_the_score(name: str) -> None:
    assert registration_gate.is_adversarial({"recipe": name}) == (name not in ("pixelshuffle", "srresnet"))


def test_finetuning_without_a_judge_is_not_judged_by_the_score() -> None:
    assert registration_gate.is_adversarial({"recipe": "finetune", "config": {"judge": "vgg"}})
    assert not registration_gate.is_adversarial({"recipe": "finetune", "config": {"judge": "none"}})


def test_five_photos_leave_one_held_out_and_it_is_said(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str], no_courier: None
) -> None:
    for path in sorted(photos.iterdir())[5:]:
        path.unlink()
    values = recipes.load("pixelshuffle").tiny().model_dump(mode="json") | {"hr_crop": 16, "steps": 1, "scale": 2}
    options = Options(evaluate_every=1, threads=1, precision="fp32", perceptual="none")
    order = execute.Order(
        recipe="pixelshuffle", values=values, options=options, name="r", data=str(photos), runs=tmp_path / "runs"
    )
    execute.execute(order, execute.Tracking(), hosts.in_process)
    assert "only 1 of 5 images is held out" in " ".join(capsys.readouterr().err.split())
