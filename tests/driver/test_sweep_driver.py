"""A sweep's driver against crashes, stops and bad steps: all of its files are real, only the training is not."""

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from driven_sweep import EVERY, Kills, SteppingHost, rising, story, write_page
from sisr.config.settings import read_yaml
from sisr.disk.run_folder import RunFolder
from sisr.driver.sweep import record
from sisr.driver.sweep.execute import nothing_found
from sisr.driver.sweep.host import SliceEnd, Task
from sisr.errors import ConfigError, DiskError, DivergedError
from sisr.sweep import state
from sisr.sweep.report import results
from sisr.sweep.state import Sweep, Trial, folder_of
from sisr.tracking.outbox import last_status

KILLS = Kills()
PBT: dict[str, Any] = {
    "scheduler": "pbt",
    "scheduler_options": {"interval": EVERY},
    "trials": 2,
    "steps": 3 * EVERY,
}


def fragile(rate: float, step: int) -> float:
    """Diverges at large rates."""
    return math.nan if rate > 4e-3 else rising(rate, step)


ASHA: dict[str, Any] = {
    "scheduler": "asha",
    "scheduler_options": {"rungs": [EVERY]},
    "trials": 3,
    "steps": 2 * EVERY,
    "score": fragile,
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no pictures, and wait for no disk: processes are killed here, not machines."""
    monkeypatch.setattr(results, "write", write_page)
    monkeypatch.setattr(os, "fsync", lambda file: None)


def outcome(folder: Path) -> dict[str, Any]:
    """All that a sweep found and left, as far as it does not depend on how often it was disturbed."""
    sweep = state.read(folder)
    trials = {}
    for trial in sweep.trials:
        own = folder_of(folder, trial).path
        trials[trial.name] = {
            "known": (trial.state, trial.step, trial.params, trial.curve, trial.exploits),
            "recorded": json.loads((own / "run.json").read_text())["params"],
            "network": story(own / "checkpoints"),
            "mlflow": (last_status(own), recorded(own, "tags"), recorded(own, "params")),
        }
    return {
        "trials": trials,
        "sweep": (sweep.state, (folder / "best.yaml").read_text(), (folder / "results/index.html").read_text()),
        "mlflow": (last_status(folder), recorded(folder, "tags"), recorded(folder, "params")),
    }


def recorded(folder: Path, op: str) -> dict[str, Any]:
    """What an outbox tells MLflow in all; the last word counts."""
    values: dict[str, Any] = {}
    for line in (folder / "outbox.jsonl").read_text().splitlines():
        row = json.loads(line)
        values |= row["values"] if row["op"] == op else {}
    return {name: value for name, value in values.items() if name != "sisr.folder"}


@pytest.mark.slow
@pytest.mark.parametrize("asked", [ASHA, PBT], ids=["asha", "pbt"])
def test_killed_before_any_file_operation_a_sweep_ends_as_if_undisturbed(tmp_path: Path, asked: dict[str, Any]) -> None:
    host = SteppingHost(tmp_path / "whole", **asked)
    left = KILLS.of(tmp_path / "whole", host.search, tmp_path / "killed")
    expected = outcome(tmp_path / "whole/s")
    assert expected["sweep"][0] == "finished"
    assert len(left) > 40
    known = [trial["known"] for trial in expected["trials"].values()]
    assert any(exploits or state == "diverged" for state, *_, exploits in known), "nobody copied anybody, or diverged"
    for runs in left:
        SteppingHost(runs, **asked).search()
        assert outcome(runs / "s") == expected, runs.name
        shutil.rmtree(runs)


@pytest.mark.slow
@pytest.mark.parametrize("asked", [ASHA, PBT], ids=["asha", "pbt"])
def test_stopped_in_the_middle_of_every_slice_a_sweep_ends_as_if_undisturbed(
    tmp_path: Path, asked: dict[str, Any]
) -> None:
    whole = SteppingHost(tmp_path / "whole", **asked)
    whole.search()
    for number in range(len(whole.slices)):
        host = SteppingHost(tmp_path / str(number), **asked)
        sweep = stopped_in_slice(host, number)
        assert sweep.state == "stopped"
        for trial in sweep.trials:
            own = folder_of(host.folder.path, trial).path
            assert recorded(own, "tags")["sisr.state"] == trial.state
            assert last_status(own) == {"finished": "FINISHED", "diverged": "FAILED", "paused": "KILLED"}[trial.state]
        assert last_status(host.folder.path) == "KILLED"
        host.folder.clear_stop()
        host.search()
        assert outcome(host.folder.path) == outcome(whole.folder.path), number


def stopped_in_slice(host: SteppingHost, number: int) -> Sweep:
    """Run a sweep until somebody asks it to stop, two steps into its slice of that number."""

    def interrupt(task: Task, step: int) -> None:
        if len(host.slices) == number and step % EVERY == 2:
            host.folder.request_stop()

    return host.search(interrupt)


def test_a_finished_sweep_that_is_given_more_trials_trains_no_step_again(tmp_path: Path) -> None:
    SteppingHost(tmp_path, **ASHA).search()
    host = SteppingHost(tmp_path, **ASHA | {"trials": 12})
    sweep = host.search()
    promoted = [(trial, first) for trial, first, step in host.slices if step > EVERY]
    assert [trial for trial, _ in promoted if trial < 3], "none of the first three was promoted"
    assert {first for _, first in promoted} == {EVERY}
    assert len(sweep.trials) == 12


def test_a_stop_after_the_last_step_leaves_a_finished_sweep(tmp_path: Path) -> None:
    host = SteppingHost(tmp_path, scheduler="none", trials=1, steps=EVERY)

    def interrupt(task: Task, step: int) -> None:
        if step == EVERY:
            host.folder.request_stop()

    assert host.search(interrupt).state == "finished"
    assert last_status(host.folder.path) == "FINISHED"


def test_a_finished_sweep_is_closed_once_and_an_unclosed_one_is_not_taken_for_finished(tmp_path: Path) -> None:
    host = SteppingHost(tmp_path, scheduler="none", trials=2, steps=EVERY)
    with host.driver() as driver:
        driver.take_up()
        write_page(host.folder.path, state.read(host.folder.path))  # as `leaderboard --page` does meanwhile
        while (task := driver.next_task()) is not None:
            driver.ended(task, host.slice(task))
        assert not driver._ledger.was_finished
    with host.driver() as driver:  # after a kill just before the end
        assert driver.finished()
        assert not driver._ledger.was_finished
        driver.close()
    with host.driver() as driver:
        assert driver._ledger.was_finished
    assert "trial 0" in (host.folder.path / "best.yaml").read_text()


def test_a_trial_whose_slice_ends_in_a_bad_step_is_not_copied_and_copies_others(tmp_path: Path) -> None:
    def flattering(rate: float, step: int) -> float:  # the largest rate looks best just where it breaks
        return 90.0 if rate == worst and step == EVERY else rising(rate, step)

    probe = SteppingHost(tmp_path / "probe", **PBT)
    worst = max(trial.first_params["learning_rate"] for trial in probe.search().trials)
    host = SteppingHost(tmp_path / "s", flattering, bad=lambda rate, step: rate == worst and step == EVERY, **PBT)
    sweep = host.search()
    broken = next(trial for trial in sweep.trials if trial.first_params["learning_rate"] == worst)
    assert [trial.state for trial in sweep.trials] == ["finished"] * 2
    assert not [e for trial in sweep.trials for e in trial.exploits if e.donor == broken.number and e.step == EVERY]


def test_a_copy_that_is_stopped_before_its_first_step_offers_others_what_it_has_copied(tmp_path: Path) -> None:
    host = SteppingHost(tmp_path, **PBT)
    with host.driver() as driver:
        driver.take_up()
        while (task := driver.next_task()) and not (exploits := driver._sweep.trials[task.trial].exploits):
            driver.ended(task, host.slice(task))
        assert task is not None
        driver.ended(task, SliceEnd(state="paused", step=exploits[0].step))
    own, donor = (folder_of(host.folder.path, driver._sweep.trials[n]).path for n in (task.trial, exploits[0].donor))
    assert story(own / "pinned") == story(donor / "pinned") is not None


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), "KILLED"), (OSError("no"), "FAILED")])
def test_a_sweep_that_is_broken_off_and_its_trials_do_not_go_on_running_in_mlflow(
    tmp_path: Path, error: BaseException, status: str
) -> None:
    host = SteppingHost(tmp_path, scheduler="none", trials=2)
    with host.driver() as driver:
        driver.take_up()
        task = driver.next_task()
        assert task is not None
        driver.abandon(error)
    assert last_status(host.folder.path) == status
    assert last_status(task.folder) == "KILLED"


@pytest.mark.parametrize(("state", "status"), [("pruned", "FINISHED"), ("paused", "KILLED"), ("diverged", "FAILED")])
def test_mlflow_is_told_how_and_when_a_trial_ended(tmp_path: Path, state: str, status: str) -> None:
    trial = Trial(0, {}, {}, step=300, curve=[(300, {"val/psnr_y": 27.5})])
    record.close_trial(RunFolder(tmp_path), trial, state)
    assert last_status(tmp_path) == status
    tags = recorded(tmp_path, "tags")
    assert (tags["sisr.state"], tags["sisr.ended"]) == (state, f"{state} at step 300")
    assert tags["sisr.final"] == '{"psnr_y": 27.5}'


def test_a_trial_that_diverges_is_closed_and_its_sweep_goes_on(tmp_path: Path) -> None:
    host = SteppingHost(tmp_path, **ASHA | {"trials": 6})
    sweep = host.search()
    diverged = [trial for trial in sweep.trials if trial.state == "diverged"]
    assert 0 < len(diverged) < 6
    assert {last_status(folder_of(host.folder.path, trial).path) for trial in diverged} == {"FAILED"}
    best = sweep.best()
    assert best is not None
    assert read_yaml(host.folder.path / "best.yaml")["learning_rate"] == best.params["learning_rate"]


def test_a_sweep_whose_trials_all_diverge_has_failed_in_mlflow_and_says_why(tmp_path: Path) -> None:
    host = SteppingHost(tmp_path, lambda rate, step: math.nan, scheduler="none", trials=2, steps=EVERY)
    sweep = host.search()
    assert sweep.state == "finished"
    assert last_status(host.folder.path) == "FAILED"
    error = nothing_found(sweep, host.folder.path)
    assert isinstance(error, DivergedError)
    assert "trial 0 diverged: not a number" in str(error)


def test_a_sweep_that_found_nothing_ends_with_the_error_of_its_first_trial(tmp_path: Path) -> None:
    host = SteppingHost(tmp_path, scheduler="none", trials=1, steps=EVERY)
    with host.driver() as driver:
        driver.take_up()
        task = driver.next_task()
        assert task is not None
        reason = "recipe mine.py:7: ValueError: no"
        driver.ended(task, SliceEnd(state="failed", step=0, message=reason, error="ConfigError"))
        driver.close()
        error = nothing_found(driver._sweep, host.folder.path)
    assert isinstance(error, ConfigError)
    assert reason in str(error)
    assert nothing_found(state.read(host.folder.path), host.folder.path).exit_code == error.exit_code


def test_a_full_disk_ends_the_sweep_and_loses_no_trial(tmp_path: Path) -> None:
    SteppingHost(tmp_path / "whole", **ASHA).search()
    host = SteppingHost(tmp_path / "full", **ASHA)
    with host.driver() as driver:
        driver.take_up()
        task = driver.next_task()
        assert task is not None
        end = SliceEnd(state="failed", step=0, message="0 bytes free", error="DiskError")
        with pytest.raises(DiskError, match=r"trial 0 stopped.*0 bytes free.*same command"):
            driver.ended(task, end)
    host.search()
    assert outcome(tmp_path / "full/s") == outcome(tmp_path / "whole/s")
