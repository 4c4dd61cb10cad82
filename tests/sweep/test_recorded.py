"""A sweep that sisr 0.1 has begun, stopped on the way from the first rung to the second, and read today."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from sisr.driver.sweep.planning import changes, plan_of
from sisr.errors import CheckpointError
from sisr.sweep import plan as plans
from sisr.sweep import state
from sisr.sweep.plan import Plan
from sisr.sweep.report import board
from sisr.sweep.schedulers import Slice, next_slice
from sisr.sweep.state import LEDGER, records, replay

RECORDED = Path(__file__).parent / "recorded"  # `sisr tune` of commit f4c7f3e: five trials, 180 steps, rungs 20 and 60
SPACE = {
    "objective": "val/psnr_y",
    "trials": 5,
    "steps": 180,
    "fixed": {"batch_size": 2, "hr_crop": 16, "num_features": 4, "num_hr_features": 4, "num_blocks": 1},
    "space": {"learning_rate": {"loguniform": [1e-5, 1e-2]}},
}
OPTIONS = {"precision": "auto", "threads": 1, "validation_side": 48, "perceptual": "none", "sample_rows": 1}


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RECORDED, tmp_path / "recorded"))


def test_its_leaderboard_ranks_what_its_ledger_records(recorded: Path) -> None:
    sweep = state.read(recorded)
    assert sweep.state == "stopped"
    assert [(row.rank, row.trial, row.state, row.step) for row in board.rows(sweep)] == [
        (1, 3, "paused", 20),
        (2, 0, "paused", 20),
        (3, 2, "paused", 20),
        (4, 1, "paused", 20),
    ]
    best = sweep.best()
    assert best is not None
    assert best.values["val/psnr_y"] == 27.41432274742318


def test_it_goes_on_with_the_trial_that_was_being_promoted(recorded: Path) -> None:
    plan = plans.read(recorded)
    assert plan is not None
    assert plan.scheduler_options == {"rungs": [20, 60]}
    assert next_slice(replay(plan, records(recorded))) == Slice(0, until=60)


def test_the_same_command_is_the_same_sweep(recorded: Path) -> None:
    path = recorded.parent / "space.yaml"
    path.write_text(yaml.safe_dump(SPACE))
    asked, _ = plan_of(
        "pixelshuffle",
        name="recorded",
        search_space=path,
        scheduler_options={"rungs": (20, 60)},
        options={**OPTIONS, "evaluate_every": 20},
    )
    previous = plans.read(recorded)
    assert previous is not None
    assert changes(previous, asked) == []
    assert changes(previous, asked.model_copy(update={"seed": 1})) == ["seed 0 -> 1"]


def test_the_hash_that_named_a_sweep_without_a_name_is_what_it_was(recorded: Path) -> None:
    plan = plans.read(recorded)
    assert plan is not None
    assert plan.hash_1 == "62d20384"


def test_a_population_of_that_time_keeps_its_interval(recorded: Path) -> None:
    content = json.loads((recorded / plans.FILE).read_text())
    content["sweep"] |= {"scheduler": "pbt", "rungs": [], "interval": 30}
    (recorded / plans.FILE).write_text(json.dumps(content))
    plan = plans.read(recorded)
    assert plan is not None
    assert (plan.scheduler, plan.scheduler_options) == ("pbt", {"interval": 30})


def test_a_ledger_of_a_newer_version_is_refused(recorded: Path) -> None:
    with open(recorded / LEDGER, "a") as file:
        file.write(json.dumps({"op": "resume", "format": state.FORMAT + 1}) + "\n")
    with pytest.raises(CheckpointError, match=r"ledger\.jsonl:\d+ has format 2: a newer sisr wrote it"):
        state.read(recorded)


@pytest.mark.parametrize(
    "row", [{"op": "end", "trial": 99, "state": "paused", "step": 1}, {"op": "start", "trial": 0}, {"op": "trial"}]
)
def test_a_row_that_does_not_fit_is_a_damaged_ledger(recorded: Path, row: dict[str, Any]) -> None:
    with open(recorded / LEDGER, "a") as file:
        file.write(json.dumps(row) + "\n")
    with pytest.raises(CheckpointError, match="record 17 of the ledger of sweep recorded is damaged"):
        state.read(recorded)


def test_today_a_plan_is_written_and_read_in_format_2(tmp_path: Path) -> None:
    plan: Plan = plan_of("pixelshuffle", name="s", scheduler_options={"eta": 4})[0]
    plans.write(tmp_path, plan, {})
    assert json.loads((tmp_path / plans.FILE).read_text())["sweep"]["format"] == 2
    assert plans.read(tmp_path) == plan
