"""The README's first command, shortened, and what the README says can be done next."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image


def sisr(*words: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "sisr.terminal.cli", *words], capture_output=True, text=True, timeout=540
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.ray
@pytest.mark.mlflow
@pytest.mark.slow
def test_the_demo_searches_trains_compares_and_upscales_and_its_model_serves_the_other_verbs() -> None:
    result = sisr("demo", "--steps", "150", "--trial-steps", "18", "--json")
    assert (result["state"], result["step"]) == ("finished", 150)
    assert json.loads(Path("runs/demo/run.json").read_text())["run"]["config"].items() >= result["found"].items()
    assert Path("runs/demo-sweep/results/index.html").is_file()
    bicubic, trained = result["reports"]
    assert [image["name"] for image in trained["images"]] == ["astronaut.png", "chelsea.png", "coffee.png"]
    assert bicubic["protocol"] == trained["protocol"]
    assert trained["mean"]["psnr_y"] > bicubic["mean"]["psnr_y"], "a sixth of the demo helps already"
    with Image.open(result["picture"]) as picture:
        assert picture.size == (3 * 600, 400)  # pixels | bicubic | trained, of the photograph's own size
    again = sisr("evaluate", "demo", "--data", "demo", "--json")
    assert {name: again["mean"][name] for name in trained["mean"]} == trained["mean"]


@pytest.mark.mlflow
def test_a_benchmark_measures_both_loops_and_the_waiting() -> None:
    small = ["--set", "hr_crop=32", "--set", "batch_size=2", "--set", "blur_sigma_max=0"]
    result = sisr("benchmark", "pixelshuffle", *small, "--blocks", "1", "--json")
    assert result["step_ms"] > 0
    assert result["plain_step_ms"] > 0
    assert result["ratio_to_plain"] == pytest.approx(result["step_ms"] / result["plain_step_ms"])
    assert 0 <= result["data_wait_share"] <= 1
