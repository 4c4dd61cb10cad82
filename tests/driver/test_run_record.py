"""The record of a run that goes on: it says what was executed, never what was only asked for."""

import json
from pathlib import Path
from typing import Any

import pytest

from sisr.disk.run_folder import RunFolder
from sisr.driver.run import execute, hosts
from sisr.driver.run import record as run_record
from sisr.errors import CheckpointError, ConfigError
from sisr.tracking.outbox import Outbox, last_status
from sisr.training.run import Options, Run

OPTIONS = Options(evaluate_every=5, log_every=5, validation_side=48, threads=1, precision="fp32", perceptual="none")


def train(runs: Path, *, allow_changes: bool = False, **settings: Any) -> dict[str, Any]:
    """Train a tiny run, or go on with it, and return its record."""
    values = {"num_features": 4, "num_blocks": 1, "batch_size": 2, "hr_crop": 32, "steps": 10, **settings}
    order = execute.Order(
        recipe="pixelshuffle", values=values, options=OPTIONS, name="r", runs=runs, allow_changes=allow_changes
    )
    execute.execute(order, execute.Tracking(), hosts.in_process)
    return record(runs)


def record(runs: Path) -> dict[str, Any]:
    return dict(json.loads((runs / "r" / "run.json").read_text()))


@pytest.mark.slow
def test_a_record_changes_only_with_what_was_executed_and_keeps_its_history(
    tmp_path: Path, no_courier: None, capsys: pytest.CaptureFixture[str]
) -> None:
    first = train(tmp_path)
    with pytest.raises(CheckpointError):
        train(tmp_path, allow_changes=True, num_features=8, steps=20)
    assert record(tmp_path) == first, "no checkpoint could be restored with the new width"
    capsys.readouterr()
    train(tmp_path, steps=5)
    assert record(tmp_path)["run"]["config"]["steps"] == 10, "it had ten steps already"
    assert "new length" not in capsys.readouterr().err
    changed = train(tmp_path, allow_changes=True, learning_rate=3e-4, steps=15)
    assert changed["run"]["config"]["learning_rate"] == 3e-4
    extended = train(tmp_path, learning_rate=3e-4, steps=20)
    assert "steps 15 -> 20: schedules go by the new length" in capsys.readouterr().err
    assert extended["run"]["config"]["steps"] == 20
    assert extended["changed"] == ["step 10: learning_rate 0.0002 -> 0.0003"]
    with pytest.raises(ConfigError, match=r"differs: learning_rate 0\.0003"):
        train(tmp_path, steps=25)


def test_a_setting_put_back_to_its_first_value_is_the_last_word(tmp_path: Path) -> None:
    for rate in (1, 2, 1):
        with Outbox(tmp_path) as outbox:
            outbox.params({"learning_rate": rate})
            outbox.status("RUNNING")
    rows = [json.loads(line) for line in (tmp_path / "outbox.jsonl").read_text().splitlines()]
    assert [row["values"] for row in rows if row["op"] == "tags"] == [
        {"resume.1.learning_rate": "2"},
        {"resume.2.learning_rate": "1"},
    ]


@pytest.mark.parametrize(("limit", "sent"), [(100, True), (10, False)])
def test_the_hashes_of_very_many_images_stay_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, sent: bool
) -> None:
    monkeypatch.setattr(run_record, "FILES_LIMIT", limit)
    folder = RunFolder(tmp_path)
    folder.record_files({"a.png": "0" * 64})
    run_record.announce(Run(name="r", recipe="srez", config={}, options=OPTIONS, data="demo"), folder, {}, False)
    rows = [json.loads(line) for line in (tmp_path / "outbox.jsonl").read_text().splitlines()]
    assert ("files.json" in [row["path"] for row in rows if row["op"] == "artifact"]) is sent
    tags = {name for row in rows if row["op"] == "tags" for name in row["values"]}
    assert ("sisr.files" in tags) is not sent


def test_a_run_that_failed_before_its_first_status_is_closed(tmp_path: Path) -> None:
    run = Run(name="r", recipe="pixelshuffle", config={}, options=OPTIONS, data="demo")
    run_record.close(run, RunFolder(tmp_path), {"state": "failed"})
    assert last_status(tmp_path) == "FAILED"
