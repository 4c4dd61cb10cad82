"""The verbs as functions: the same path, results as values, errors as exceptions, and silence."""

import doctest
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sisr
from sisr.errors import ConfigError, DataError, StoppedError
from sisr.interface import functions
from sisr.interface.call import call
from sisr.interface.results import Evaluated, Upscaled

TINY = {"steps": 4, "batch_size": 2, "hr_crop": 16, "num_features": 4, "num_hr_features": 4, "scale": 2}
QUICK = {"threads": 1, "precision": "fp32", "evaluate_every": 2, "validation_side": 24, "perceptual": "none"}
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def photos() -> Path:
    """A folder of pictures where each test works."""
    folder, random = Path("photos"), np.random.default_rng(0)
    folder.mkdir()
    for number in range(6):
        pixels = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_the_functions_can_be_imported_without_torch() -> None:
    program = "import sys; from sisr import train, tune, evaluate, compare, upscale; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout == "False\n"
    assert {"train", "tune", "evaluate", "compare", "upscale"} <= set(dir(sisr))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        sisr.trian  # noqa: B018


def test_an_unknown_option_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="evaluate has no option 'protocoll'; did you mean 'protocol'"):
        sisr.evaluate("bicubic", protocoll="y")


def test_a_value_that_can_not_be_used_has_the_text_of_the_command_line() -> None:
    with pytest.raises(ConfigError, match="'fp8' is not one of"):
        sisr.upscale("photos/0.png", "bicubic", precision="fp8")
    with pytest.raises(DataError, match="nowhere"):
        sisr.evaluate("bicubic", data="nowhere")


def test_the_examples_of_evaluate_and_upscale_are_right(capfd: pytest.CaptureFixture[str]) -> None:
    finder = doctest.DocTestFinder(recurse=False)
    runner = doctest.DocTestRunner()
    for function in (functions.evaluate, functions.upscale):
        for example in finder.find(function, globs=vars(functions).copy()):
            assert len(example.examples) == 2
            runner.run(example)
    assert runner.summarize(verbose=False).failed == 0
    assert capfd.readouterr() == ("", "")


def test_what_is_measured_is_what_the_verb_prints_and_a_notebook_shows(capfd: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = {"data": "photos", "scale": 2, "perceptual": "none", "metrics": ["niqe"]}
    found = sisr.evaluate("bicubic", **options)
    assert isinstance(found, Evaluated)
    value = f"{found.mean['bicubic']['psnr_y']:.2f} dB"
    assert value in found.printed
    assert value in found._repr_html_()
    assert "warning: niqe is left out" in found.printed
    assert capfd.readouterr() == ("", "")
    assert sisr.evaluate("bicubic", verbose=True, **options).printed == ""
    assert value in capfd.readouterr().out


def test_a_folder_of_images_is_a_list_and_each_is_shown_as_a_picture() -> None:
    found = sisr.upscale("photos", "bicubic", "large", scale=2, format="jpg")
    assert isinstance(found, list)
    assert [picture.path.name for picture in found] == [f"{number}.jpg" for number in range(6)]
    assert found[0]._repr_png_().startswith(PNG)
    (one,) = [sisr.upscale("photos/0.png", "bicubic", "one.png", scale=2)]
    assert isinstance(one, Upscaled)
    assert one._repr_png_() == Path("one.png").read_bytes()


@pytest.mark.slow
def test_a_run_that_is_stopped_is_saved_and_the_same_call_goes_on_and_is_compared(no_courier: None) -> None:
    given: dict = {"settings": TINY | {"steps": 100_000}, "options": QUICK, "name": "first", "local": True}
    stop = threading.Timer(0.0, lambda: None)

    def when_it_trains() -> None:
        while not list(Path("runs/first/checkpoints").glob("step_*")):
            if stop.finished.wait(0.1):
                return
        os.kill(os.getpid(), signal.SIGINT)

    watcher = threading.Thread(target=when_it_trains, daemon=True)
    stop.finished.clear()
    watcher.start()
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(StoppedError, match="the same command goes on"):
            sisr.train("pixelshuffle", "photos", **given)
    finally:
        stop.finished.set()
    assert signal.getsignal(signal.SIGINT) is before
    step = int(max(Path("runs/first/checkpoints").glob("step_*")).name.removeprefix("step_"))
    run = sisr.train("pixelshuffle", "photos", **given | {"settings": TINY | {"steps": step + 2}})
    assert run.status["step"] == step + 2
    assert run.metrics["psnr_y"] > 0
    assert "data:image/png;base64," in run._repr_html_()
    shutil.copytree("photos", "copied")  # of its own folder one image was held out, too few for a comparison
    compared = sisr.compare("first", "bicubic", data="copied", perceptual="none", log=False)
    assert compared.verdicts["first"] == "reference"
    assert (compared.folder / "comparison.html").is_file()
    assert "<table>" in compared._repr_html_()


@pytest.mark.slow
def test_a_run_begins_from_another_with_its_recipe_and_images(no_courier: None) -> None:
    sisr.train("pixelshuffle", "photos", settings=TINY, options=QUICK, name="first", local=True)
    again = sisr.train(from_="first", settings={"steps": 2}, name="second", local=True)
    first, second = (json.loads(Path("runs", name, "run.json").read_text())["run"] for name in ("first", "second"))
    assert again.status["step"] == 2
    assert (second["recipe"], second["data"]) == (first["recipe"], first["data"])


def test_a_mapping_becomes_words_that_the_verb_reads_back() -> None:
    checked, _ = call("train", ["pixelshuffle"], {"data": "photos", "set_": TINY, "dry_run": True, "local": True})
    assert {name: checked["run"]["config"][name] for name in TINY} == TINY
