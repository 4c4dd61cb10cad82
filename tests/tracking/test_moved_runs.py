"""Which folder belongs to an MLflow run, where the folder of runs was moved or copied."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sisr.tracking import selection
from sisr.tracking.mlflow_run import UID_TAG
from sisr.tracking.outbox import Outbox


def recorded(folder: Path) -> Any:
    """Make a run's folder; return what MLflow knows of it."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    with Outbox(folder):
        pass
    tags = {"sisr.folder": str(folder), UID_TAG: selection._run_uid(folder)}
    return SimpleNamespace(data=SimpleNamespace(tags=tags))


@pytest.mark.parametrize("name", ["a", "sweep/trials/0007"])
def test_a_run_is_found_in_the_folder_of_runs_that_is_asked_before_the_one_it_was_made_in(
    tmp_path: Path, name: str
) -> None:
    run = recorded(tmp_path / "runs" / name)
    shutil.copytree(tmp_path / "runs", tmp_path / "copy")
    assert selection.folder_of(run, tmp_path / "copy") == tmp_path / "copy" / name
    assert selection.folder_of(run, tmp_path / "empty") == tmp_path / "runs" / name
    shutil.rmtree(tmp_path / "runs")
    assert selection.folder_of(run, tmp_path / "copy") == tmp_path / "copy" / name
    assert selection.folder_of(run, tmp_path / "empty") is None


def test_another_run_of_the_same_name_is_not_taken_for_it(tmp_path: Path) -> None:
    run = recorded(tmp_path / "runs" / "a")
    recorded(tmp_path / "others" / "a")
    assert selection.folder_of(run, tmp_path / "others") == tmp_path / "runs" / "a"
