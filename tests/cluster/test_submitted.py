"""Pipelines as `ray submit` leaves them: one file copied alone to a home folder, run by the Python that sisr is in."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sisr.terminal import cli

REPOSITORY = Path(__file__).resolve().parents[2]
VERBS = sorted(path.stem for path in (REPOSITORY / "pipelines").glob("[a-z]*.py"))


def submit(verb: str, home: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Copy the verb's file to a foreign folder and run it there."""
    shutil.copy(REPOSITORY / "pipelines" / f"{verb}.py", home)
    environment = {**os.environ, "HOME": str(home)}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, f"{verb}.py", *words]
    return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("verb", VERBS)
def test_a_pipeline_copied_alone_to_a_foreign_folder_runs(verb: str, tmp_path: Path) -> None:
    done = submit(verb, tmp_path, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: {verb}.py")
    assert "--help" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".py") == [f"{verb}.py"]


@pytest.mark.slow
def test_train_copied_alone_checks_a_whole_run(tmp_path: Path) -> None:
    done = submit("train", tmp_path, "pixelshuffle", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["run"]["recipe"] == "pixelshuffle"
    assert not (tmp_path / "runs").exists()


def test_a_mistake_on_the_head_comes_back_as_the_exit_status(tmp_path: Path) -> None:
    done = submit("train", tmp_path, "pixelshufle")
    assert done.returncode == 2
    assert "did you mean 'pixelshuffle'" in done.stderr


def test_the_words_after_ray_submit_on_the_page_about_clusters_are_ones_that_the_verbs_understand() -> None:
    lines = [line.strip() for line in (REPOSITORY / "docs" / "cluster.md").read_text().splitlines()]
    submitted = [line for line in lines if line.startswith("ray submit")]
    jobs = [line for line in lines if line.startswith("-- sisr")]
    assert submitted
    assert jobs
    for line in submitted + jobs:
        before, _, after = line.partition("-- ")
        words = shlex.split(after)
        verb = Path(before.split()[-1]).stem if before else words[1]
        name, command, _ = cli._group().resolve_command(None, [verb])
        command.make_context(name, words if before else words[2:])
