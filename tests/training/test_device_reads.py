"""No step waits for its device: the host asks for no number that was computed in it."""

import itertools
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn

import outside_recipe
from sisr import recipes
from sisr.disk.run_folder import RunFolder
from sisr.recipes import outside
from sisr.training import contract
from sisr.training.device_reads import DeviceReads
from sisr.training.loop import train
from sisr.training.run import Options, Run
from sisr.training.session import NoLog, PlainSession, Request

STEPS = 13  # more than the guard waits for until it looks at gradients and at the pixel loss


class CountsReads(PlainSession):
    """Counts the reads of each step: the loop asks its session once after each, and before the first."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(folder, torch.device("cpu"))
        self.counted = DeviceReads()
        self.seen = [0]  # after each step

    def request(self, step: int) -> Request:
        self.seen.append(self.counted.count)
        return super().request(step)


@pytest.fixture(autouse=True)
def cache(session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SISR_CACHE", str(session_cache))


def short_run(name: str, precision: Literal["bf16", "fp16"]) -> Run:
    """A run that logs, evaluates and saves at its end only."""
    config = recipes.load(name).tiny().model_dump(mode="json") | {"steps": STEPS}
    rarely: dict[str, Any] = {"evaluate_every": 100, "log_every": 100, "perceptual": "none", "clip_norm": 100.0}
    options = Options(precision=precision, threads=1, validation_side=32, **rarely)
    return Run(name="t", recipe=name, config=config, options=options, data="demo")


@pytest.mark.slow
@pytest.mark.parametrize("name", recipes.names())
def test_only_steps_that_log_evaluate_or_save_read_numbers_back(name: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    session = CountsReads(folder)
    with session.counted:
        train(short_run(name, "bf16"), folder, session, NoLog())
    _, *between, last = [after - before for before, after in itertools.pairwise(session.seen)]
    assert between == [0] * (STEPS - 2)
    assert last > 0


class ForbidsWaiting(PlainSession):
    """Lets torch raise an error where the host waits for the GPU, between the first step and the last."""

    def request(self, step: int) -> Request:
        torch.cuda.set_sync_debug_mode("error" if step < STEPS - 1 else "default")
        return super().request(step)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", recipes.names())
def test_no_step_in_between_waits_for_a_gpu(name: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    try:
        train(short_run(name, "fp16"), folder, ForbidsWaiting(folder, torch.device("cuda", 0)), NoLog())
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_every_way_to_read_a_number_counts() -> None:
    x = torch.ones(2)
    with DeviceReads() as reads:
        for read in (lambda: x[0].item(), lambda: float(x[0]), lambda: bool(x[0]), x.tolist, lambda: int(x[1] + 1)):
            before = reads.count
            read()
            assert reads.count == before + 1
        nn.functional.relu(x).sum().detach().mul_(2)
    assert reads.count == 5


def test_the_check_of_a_recipe_sees_what_its_step_reads() -> None:
    text = outside_recipe.text()
    module = outside.module(outside.Source("espcn", text, "espcn.py"))
    plain = contract.reads_per_step(module)
    loss = "        loss = pixel.l1(self.generator(lr), hr)\n"
    assert loss in text
    spoiled = text.replace(loss, f"{loss}        loss = loss if loss.item() < 1e9 else loss * 0\n")
    assert contract.reads_per_step(outside.module(outside.Source("espcn", spoiled, "espcn.py"))) == plain + 1
