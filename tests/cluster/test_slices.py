"""Slices of real trials in this very process: what a sweep learns of each, whatever happens to it."""

import pickle
import threading
from pathlib import Path
from typing import Any

import pytest

from sisr.cluster.allocation import TrialAllocation
from sisr.disk.run_folder import RunFolder
from sisr.driver.sweep.host import SliceEnd, Task
from sisr.errors import DiskError
from sisr.training.run import Options, Run

TINY: dict[str, Any] = {"batch_size": 2, "hr_crop": 16, "num_features": 4, "num_hr_features": 4, "num_blocks": 1}
OPTIONS = Options(threads=1, validation_side=48, perceptual="none", evaluate_every=2, sample_rows=1, precision="fp32")


def task(folder: Path, until: int, recipe: str = "pixelshuffle", source: str = "", **config: Any) -> Task:
    run = Run(
        name="s-0000",
        recipe=recipe,
        recipe_source=source,
        config={**TINY, "steps": 4, **config},
        options=OPTIONS,
        data="demo",
    )
    return Task(trial=0, run=run, folder=folder / "trials/0000", until=until, sweep=folder)


def ended(task: Task) -> Any:
    from sisr.cluster.slices import outcome, run_slice

    return outcome(task, run_slice({"task": task, "allocation": TrialAllocation()}))


@pytest.mark.slow
def test_a_slice_pauses_where_trials_are_compared_and_the_next_goes_on_from_there(tmp_path: Path) -> None:
    first, second = (ended(task(tmp_path, until)) for until in (2, 4))
    assert (first.state, first.step, second.state, second.step) == ("paused", 2, "finished", 4)
    assert [step for step, _ in RunFolder(tmp_path / "trials/0000").evaluations()] == [0, 2, 4]


def test_a_diverging_slice_says_so_with_its_reason(tmp_path: Path) -> None:
    end = ended(task(tmp_path, 400, learning_rate=1e9, steps=400))
    assert (end.state, end.error) == ("diverged", "DivergedError")
    assert "not finite" in end.message or "not a number" in end.message


def test_an_error_of_a_recipe_of_ones_own_names_its_line(tmp_path: Path, repository: Path) -> None:
    text = (repository / "platform/sisr/recipes/pixelshuffle.py").read_text()
    broken = text.replace(
        "    def train_step(", "    def train_step(self, *_):\n        raise KeyError('mine')\n\n    def unused(", 1
    )
    end = ended(task(tmp_path, 2, recipe="mine", source=broken))
    assert (end.state, end.error) == ("failed", "ConfigError")
    assert "KeyError" in end.message
    assert "mine" in end.message


def test_the_cause_survives_though_no_warning_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sisr.training import loop

    def fail(*_: Any) -> None:
        raise ZeroDivisionError("the cause")

    (tmp_path / "trials/0000/warnings.log").mkdir(parents=True)
    monkeypatch.setattr(loop, "seed_everything", fail)
    end = ended(task(tmp_path, 2))
    assert (end.state, end.message, end.error) == ("failed", "ZeroDivisionError: the cause", "SisrError")


def test_a_slice_whose_process_was_lost_has_failed_where_its_trial_stands(tmp_path: Path) -> None:
    from sisr.cluster.slices import outcome

    of = task(tmp_path, 4)
    RunFolder(of.folder).path.mkdir(parents=True)
    RunFolder(of.folder).write_status(step=2)
    end = outcome(of, None)
    assert (end.state, end.step) == ("failed", 2)
    assert "process was lost" in end.message


class Source:
    """Has one slice; what ended is kept, or refused."""

    def __init__(self, of: Task, refusal: Exception | None = None) -> None:
        self.waiting, self.ends, self.refusal = [of], list[SliceEnd](), refusal

    def next_task(self) -> Task | None:
        return self.waiting.pop() if self.waiting else None

    def finished(self) -> bool:
        return not self.waiting

    def ended(self, task: Task, end: SliceEnd) -> None:
        if self.refusal:
            raise self.refusal
        self.ends.append(end)


RESULT = {"state": "paused", "step": 2, "seconds": 1.5, "message": "", "error": "", "trial_id": "a", "done": True}


def test_tune_is_offered_slices_until_there_are_no_more_and_none_runs(tmp_path: Path) -> None:
    from sisr.cluster.slices import SliceSearcher

    source = Source(of := task(tmp_path, 2))
    searcher = SliceSearcher(source, TrialAllocation())
    assert searcher.suggest("a") == {"task": of, "allocation": TrialAllocation(), "desk": None}
    assert searcher.suggest("b") is None
    searcher.on_trial_complete("a", RESULT)
    assert source.ends == [SliceEnd(state="paused", step=2, seconds=1.5)]
    assert searcher.suggest("b") == SliceSearcher.FINISHED


def test_an_error_of_the_driver_is_kept_for_its_user(tmp_path: Path) -> None:
    from sisr.cluster.slices import SliceSearcher

    searcher = SliceSearcher(Source(task(tmp_path, 2), refusal=DiskError("full")), TrialAllocation())
    searcher.suggest("a")
    with pytest.raises(DiskError, match="full"):
        searcher.on_trial_complete("a", RESULT)
    assert isinstance(searcher.error, DiskError)


def test_tune_can_pickle_its_searcher_though_a_driver_can_not(tmp_path: Path) -> None:
    from sisr.cluster.slices import SliceSearcher

    source = Source(task(tmp_path, 2))
    source.lock = threading.Lock()  # type: ignore[attr-defined]
    assert isinstance(pickle.loads(pickle.dumps(SliceSearcher(source, TrialAllocation()))), SliceSearcher)
