"""What --dry-run finds out: what a run asks of a machine, without training, fetching or writing."""

import json
import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from sisr import recipes
from sisr.driver.run import dry_run
from sisr.driver.run.order import Order, prepare
from sisr.driver.run.workers import parse
from sisr.errors import ConfigError, DataError
from sisr.losses import perceptual
from sisr.training.estimate import estimate
from sisr.training.run import Options, Run

OPTIONS = Options(perceptual="none", validation_side=64, precision="fp32")
TINY = {"batch_size": 8, "steps": 4, "hr_crop": 32, "num_features": 8, "num_hr_features": 4, "num_blocks": 1}


def test_more_workers_than_cpus_and_a_gpu_that_is_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cpus = len(os.sched_getaffinity(0))
    dry_run.check_machine(parse(str(cpus)), None, 0)
    with pytest.raises(ConfigError, match=f"they want {cpus + 6} CPUs, and this machine has {cpus}"):
        dry_run.check_machine(parse(str(cpus + 6)), None, None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"--gpus-per-worker 1: 1 such workers want 1 GPUs, and torch finds 0 here"):
        dry_run.check_machine(parse("1"), None, 1)


def test_what_a_batch_keeps_grows_with_its_size_and_is_halved_by_two_micro_batches() -> None:
    module = recipes.load("pixelshuffle")
    config = module.Config(**TINY)
    one = estimate(module, config, OPTIONS, torch.device("cpu"))
    other = estimate(module, config.model_copy(update={"batch_size": 16}), OPTIONS, torch.device("cpu"))
    halved = estimate(module, config, OPTIONS.model_copy(update={"accumulate": 2}), torch.device("cpu"))
    assert one.activation_bytes > 0
    assert other.activation_bytes == 2 * one.activation_bytes
    assert halved.activation_bytes * 2 == one.activation_bytes
    assert one.state_bytes == other.state_bytes


def test_the_state_is_weights_gradients_two_moments_of_adam_and_the_averaged_generator() -> None:
    module = recipes.load("pixelshuffle")
    config = module.Config(**TINY)
    weights = sum(p.numel() for p in module.generator(config).parameters())
    assert estimate(module, config, OPTIONS, torch.device("cpu")).state_bytes == 5 * 4 * weights


@pytest.mark.slow
def test_without_fetching_no_weights_are_downloaded_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def download() -> None:
        raise AssertionError("nothing may be downloaded")

    monkeypatch.setattr(perceptual, "_download", download)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    settings, _ = recipes.preset(recipes.find("srgan_gp"), ["cpu"])
    values = {**settings, "num_blocks": 1, "batch_size": 2, "steps": 4}
    run, _, _ = prepare(Order(recipe="srgan_gp", values=values, options=OPTIONS), fetch=False)
    assert run.config["perceptual"] == "imagenet"
    found = dry_run.expected(run, 1, 0)
    assert found["hours"] > 0
    capsys.readouterr()
    dry_run.show({"takes": found}, "so much:")
    out, err = capsys.readouterr()
    assert json.loads(out) == {"takes": found}
    assert err.startswith("so much:\ndevice CPU, ")
    assert "VGG-19's weights would be downloaded to" in err


def test_threads_are_those_asked_for_and_a_busy_machine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    number, cpus = torch.get_num_threads(), len(os.sched_getaffinity(0))
    monkeypatch.setattr(os, "getloadavg", lambda: (9.0 * cpus, 0.0, 0.0))
    options = OPTIONS.model_copy(update={"threads": 1})
    run = Run(name="r", recipe="pixelshuffle", config=TINY, options=options, data="demo")
    try:
        found = dry_run.expected(run, 1, 0)
    finally:
        torch.set_num_threads(number)
    assert found["device"] == "CPU, 1 thread"
    assert f"(load {9 * cpus} on {cpus} CPUs)" in found["warnings"][0]


def test_images_are_looked_at_before_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(perceptual, "_download", lambda: pytest.fail("the images come first"))
    with pytest.raises(DataError, match="as large as the training window, 512x512"):
        prepare(Order(recipe="srgan_gp", values={"hr_crop": 512, "num_blocks": 1}, data=str(small(tmp_path / "a"))))


def small(folder: Path) -> Path:
    folder.mkdir()
    for i in range(4):
        Image.new("RGB", (64, 64), (9 * i, i, 0)).save(folder / f"{i}.png")
    return folder
