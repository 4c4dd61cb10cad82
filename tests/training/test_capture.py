"""Captured steps: what a CPU says and does instead, and that all but the capture itself changes nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sisr import recipes
from sisr.disk.run_folder import RunFolder
from sisr.training import compiling
from sisr.training.local import train_here
from sisr.training.run import Options, Run
from sisr.training.session import NoLog

PHOTOS = Path(__file__).parent / "recorded_run" / "photos"
STEPS = 3


class Logged(NoLog):
    """Keeps what a run logs."""

    def __init__(self) -> None:
        self.values: list[dict[str, float]] = []

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self.values.append({name: value for name, value in values.items() if not name.startswith("speed/")})


def run(recipe: str = "srez", **options: Any) -> Run:
    config = recipes.load(recipe).tiny().model_dump(mode="json") | {"steps": STEPS, "hr_crop": 16}
    config |= {"box": None, "source_side": 16} if recipe == "srez" else {}
    given = {"precision": "fp32", "threads": 1, "evaluate_every": STEPS, "validation_side": 24, "perceptual": "none"}
    chosen = Options(**{**given, "log_every": 1, **options})
    return Run(name="t", recipe=recipe, config=config, options=chosen, data=str(PHOTOS))


def trained(folder: Path, **options: Any) -> tuple[RunFolder, list[dict[str, float]]]:
    there, log = RunFolder(folder), Logged()
    train_here(run(**options), there, log)
    return there, log.values


def digest(folder: RunFolder) -> str:
    manifest = folder.checkpoints / f"step_{STEPS:09d}" / "manifest.json"
    return str(json.loads(manifest.read_text())["digest"])


def test_on_a_cpu_a_line_says_that_nothing_is_captured_and_the_run_is_the_same(tmp_path: Path) -> None:
    plain, _ = trained(tmp_path / "plain")
    asked, _ = trained(tmp_path / "asked", capture="auto")
    assert asked.warnings() == ["capture=auto: steps are not captured: this needs a GPU of NVIDIA"]
    assert digest(asked) == digest(plain)


@pytest.mark.slow
def test_a_run_whose_networks_are_traced_as_for_capture_logs_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, plain = trained(tmp_path / "plain")
    passes: list[int] = []
    monkeypatch.setattr(compiling, "obstacle_to_capture", lambda device: None)
    monkeypatch.setattr(compiling, "CAPTURING", "aot_eager")  # what the backend for GPUs does before it records
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: passes.append(1))
    torch.compiler.reset()
    folder, captured = trained(tmp_path / "captured", capture="auto")
    assert folder.warnings() == []
    assert len(passes) == STEPS
    assert len(captured) >= STEPS
    for found, expected in zip(captured, plain, strict=True):
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_micro_batches_are_passes_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    monkeypatch.setattr(compiling, "obstacle_to_capture", lambda device: None)
    monkeypatch.setattr(compiling, "CAPTURING", "eager")
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: passes.append(1))
    trained(tmp_path / "run", recipe="pixelshuffle", capture="auto", accumulate=2)
    assert len(passes) == 2 * STEPS


def test_a_run_recorded_before_there_was_capture_is_still_the_same_run() -> None:
    known = run()
    older = {name: value for name, value in known.options.model_dump().items() if name != "capture"}
    assert "capture" not in older
    assert run(capture="auto").config_hash != known.config_hash
    assert Run(**{**known.model_dump(), "options": older}).config_hash == known.config_hash
