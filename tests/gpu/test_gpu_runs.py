"""Whole runs on a GPU: exact resume, every number format, workers, memory that runs out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gpus import require_gpus
from sisr import recipes
from sisr.data.augment import Crop
from sisr.data.batches import Batches, Prefetcher
from sisr.disk.run_folder import RunFolder
from sisr.errors import OutOfMemoryError
from sisr.training.checkpoint import load_state
from sisr.training.local import Share, train_in_processes
from sisr.training.loop import train
from sisr.training.run import Options, Run
from sisr.training.session import NoLog, PlainSession

STEPS, MIDDLE = 6, 3

pytestmark = pytest.mark.usefixtures("float32_is_float32")


def run_of(recipe: str, images: Path, values: dict[str, Any] | None = None, **options: Any) -> Run:
    config = recipes.load(recipe).tiny().model_dump(mode="json") | {"steps": STEPS, "batch_size": 4} | (values or {})
    given = {"precision": "fp32", "evaluate_every": STEPS, "log_every": 1, "threads": 1, "validation_side": 48}
    return Run(name="r", recipe=recipe, config=config, options=Options(**(given | options)), data=str(images))


def trained(run: Run, folder: Path, device: torch.device, until: int | None = None) -> dict[str, Any]:
    return train(run, RunFolder(folder), PlainSession(RunFolder(folder), device, until=until), NoLog())


def digest_of(folder: Path, step: int = STEPS) -> str:
    return str(json.loads((folder / "checkpoints" / f"step_{step:09d}" / "manifest.json").read_text())["digest"])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("recipe", ["srez", "encdec_gan"])
def test_a_resumed_run_equals_an_undisturbed_one(
    tmp_path: Path, images: Path, device: torch.device, recipe: str, precision: str
) -> None:
    run = run_of(recipe, images, precision=precision, deterministic=True)
    trained(run, tmp_path / "whole", device)
    assert trained(run, tmp_path / "resumed", device, until=MIDDLE)["state"] == "stopped"
    assert trained(run, tmp_path / "resumed", device)["state"] == "finished"
    assert digest_of(tmp_path / "resumed") == digest_of(tmp_path / "whole")


@pytest.mark.gpu
@pytest.mark.parametrize("recipe", ["pixelshuffle", "srez"])
def test_a_run_in_fp16_finds_its_scale(tmp_path: Path, images: Path, gpu: torch.device, recipe: str) -> None:
    status = trained(run_of(recipe, images, {"steps": 30}, precision="fp16"), tmp_path, gpu)
    assert (status["state"], status["device"]) == ("finished", "cuda:0")
    scales = load_state(tmp_path / "checkpoints" / "step_000000030")["others"]["updates"]["scales"]
    assert all(1 <= float(scale) <= 2.0**16 for scale in scales.values())


def test_what_is_cut_ahead_arrives_as_it_was_cut(device: torch.device) -> None:
    class Noise:
        names = ["noise"]

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> Any:
            return np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)

        def lr(self, index: int) -> Any:
            raise AssertionError("lr is not given")

    batches = Batches(Noise(), Crop(side=128), 16, seed=0)
    prefetcher = Prefetcher(batches, device=device, depth=2)
    try:
        # The thread writes the next batches while these are copied: no page may be used again too early.
        arrived = [prefetcher.next() for _ in range(12)]
    finally:
        prefetcher.close()
    for step, windows in enumerate(arrived):
        assert windows.hr.device == device
        assert torch.equal(windows.hr.cpu(), batches.take(step, 0, 16).hr)


def plain_log(path: Path) -> NoLog:
    return NoLog()


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_state(folder / "checkpoints" / f"step_{STEPS:09d}")["parts"]["generator"]


def assert_two_workers_train_like_one(tmp_path: Path, images: Path, device: torch.device) -> None:
    run = run_of("srez", images, deterministic=True)
    alone = trained(run, tmp_path / "alone", device)
    together = train_in_processes(run, RunFolder(tmp_path / "together"), Share(2), plain_log)
    assert (together["state"], together["workers"], together["device"]) == ("finished", 2, alone["device"])
    assert together["validation"] == pytest.approx(alone["validation"], rel=1e-2)
    for name, value in weights_of(tmp_path / "alone").items():
        torch.testing.assert_close(weights_of(tmp_path / "together")[name], value, rtol=0.05, atol=2e-3)


@pytest.mark.gpu
def test_two_workers_on_one_gpu_train_like_one(
    tmp_path: Path, images: Path, gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # of several GPUs one, which NCCL would refuse
    assert_two_workers_train_like_one(tmp_path, images, gpu)


@pytest.mark.gpu
def test_two_workers_on_two_gpus_train_like_one(tmp_path: Path, images: Path) -> None:
    require_gpus(2)
    assert_two_workers_train_like_one(tmp_path, images, torch.device("cuda:0"))


@pytest.mark.gpu
def test_memory_that_runs_out_is_answered_with_advice(tmp_path: Path, images: Path, gpu: torch.device) -> None:
    whole = torch.cuda.mem_get_info(gpu)[1]
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 2 * 2**30 / whole), gpu)
    try:
        large = {"batch_size": 1024, "num_features": 512, "num_hr_features": 256, "num_blocks": 8, "hr_crop": 64}
        with pytest.raises(OutOfMemoryError, match=r"1024 examples of 64x64 px at a time, peak .* GiB: .*accumulate=2"):
            trained(run_of("pixelshuffle", images, large), tmp_path, gpu)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, gpu)
        torch.cuda.empty_cache()
    assert trained(run_of("pixelshuffle", images), tmp_path / "next", gpu)["state"] == "finished"


@pytest.mark.gpu
@pytest.mark.parametrize("recipe", ["pixelshuffle", "srez"])
def test_a_captured_run_ends_as_one_that_is_not(tmp_path: Path, images: Path, gpu: torch.device, recipe: str) -> None:
    plain = trained(run_of(recipe, images, {"steps": 12}), tmp_path / "plain", gpu)
    captured = trained(run_of(recipe, images, {"steps": 12}, capture="auto"), tmp_path / "captured", gpu)
    assert RunFolder(tmp_path / "captured").warnings() == []
    name = "val/psnr_y"
    assert captured["validation"][name] == pytest.approx(plain["validation"][name], abs=0.05)
