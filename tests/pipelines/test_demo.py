"""The README's first command, shortened, and what the README says can be done next."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sisr.sweep import state


def sisr(*words: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "sisr.terminal.cli", *words], capture_output=True, text=True, timeout=540
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.ray
@pytest.mark.mlflow
@pytest.mark.slow
def test_the_demo_tells_the_whole_story_and_its_champion_serves_the_other_verbs() -> None:
    lengths = ("--steps", "60", "--trials", "2", "--trial-steps", "3")
    result = sisr("demo", *lengths, "--json")
    gan, pixels = (json.loads(Path(f"runs/{name}/run.json").read_text())["run"] for name in ("demo", "demo-pixels"))
    assert gan["init"] == "demo-pixels"
    found = state.read(Path("runs/demo-sweep"))
    best, published = found.best(), json.loads(Path("runs/demo/status.json").read_text())
    assert best is not None
    assert published["validation"] == best.values_at(result["steps"]), "the run repeats the best trial to its best step"
    assert gan["config"].items() >= result["found"].items()
    assert pixels["config"]["judge"] == "none"
    assert Path("runs/demo-sweep/results/index.html").is_file()
    measured = {model["model"]: model["mean"] for model in result["comparison"]["models"]}
    assert measured["demo-pixels"]["swd"] < measured["bicubic"]["swd"], "a few steps are sharper already"
    names = {image["name"].split("_")[0] for image in result["comparison"]["models"][0]["images"]}
    assert names == {"astronaut"}, "neither trained on nor what the search looked at"
    assert result["registered"]["named"] == "models:/demo@champion"
    with Image.open(result["enlarged"]) as picture:
        assert picture.width == 3 * 512  # pixels | bicubic | the champion, of the photograph's own size
    again = sisr("evaluate", "models:/demo@champion", "--data", "demo", "--json")
    assert [image["name"] for image in again["images"]] == ["astronaut.png", "chelsea.png", "coffee.png"]


@pytest.mark.mlflow
def test_a_benchmark_measures_both_loops_and_the_waiting() -> None:
    small = ["--set", "hr_crop=32", "--set", "batch_size=2", "--set", "blur_sigma_max=0"]
    result = sisr("benchmark", "pixelshuffle", *small, "--blocks", "1", "--json")
    assert result["step_ms"] > 0
    assert result["plain_step_ms"] > 0
    assert result["ratio_to_plain"] == pytest.approx(result["step_ms"] / result["plain_step_ms"])
    assert 0 <= result["data_wait_share"] <= 1
