from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sisr.disk.run_folder import RunFolder
from sisr.training import progress
from sisr.training.session import PlainSession


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        """Return the time in seconds."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(progress, "time", found)
    return found


def begun(folder: RunFolder, steps: int) -> progress.Progress:
    folder.path.mkdir(exist_ok=True)
    prefetcher: Any = SimpleNamespace(waited_s=0.0)
    return progress.Progress(folder, PlainSession(folder, torch.device("cpu")), steps, 4, 0, prefetcher, {})


def test_the_first_step_is_shown_at_once_and_later_ones_once_a_second(tmp_path: Path, clock: Clock) -> None:
    folder = RunFolder(tmp_path)
    shown = begun(folder, 100)
    steps = []
    for done, at in ((1, 100.2), (2, 100.4), (3, 100.6), (4, 101.3)):
        clock.now = at
        shown.stepped(done)
        steps.append(folder.status()["step"])
    assert steps == [1, 1, 1, 4]


def test_the_estimate_comes_after_ten_steps_and_leaves_the_slow_first_one_out(tmp_path: Path, clock: Clock) -> None:
    folder = RunFolder(tmp_path)
    shown = begun(folder, 110)
    clock.now += 5.0  # the first step
    for done in range(1, 10):
        shown.stepped(done)
        clock.now += 0.5
    assert "estimate" not in folder.status()
    shown.stepped(10)
    found = folder.status()["estimate"]
    assert found["step"] == 10
    assert found["seconds"] == pytest.approx(100 * 0.5)
    assert found["memory_bytes"] > 2**20


def test_a_first_step_that_takes_long_is_estimated_from_alone(tmp_path: Path, clock: Clock) -> None:
    folder = RunFolder(tmp_path)
    shown = begun(folder, 400_000)
    clock.now += 30.0
    shown.stepped(1)
    assert folder.status()["estimate"]["seconds"] == pytest.approx(399_999 * 30.0)


def test_the_time_left_counts_validations_and_does_not_jump_after_one(tmp_path: Path, clock: Clock) -> None:
    folder = RunFolder(tmp_path)
    shown, left = begun(folder, 1_000), {}
    clock.now += 5.0  # the first step
    for done in range(1, 301):
        shown.stepped(done)
        if done % 10 == 0:
            shown.logged(done, {}, {})
            left[done] = folder.status()["eta_s"]
            clock.now += 10.0
            shown.validated(done, {}, {})
        clock.now += 1.0
    # Ten steps and a validation take 20 s: one thing just after a validation, and just before it.
    assert left[300] == pytest.approx(700 * 2.0, rel=0.05)
    shown.stepped(301)
    assert folder.status()["eta_s"] == pytest.approx(left[300], rel=0.05)
