"""`sisr pack`: the verdicts as a table and as JSON, and its exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(11):
        Image.fromarray(np.full((20 + i, 30), i, np.uint8)).save(folder / f"{i:02d}.png")
    return folder


def _pack(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sisr.pipelines.pack", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_json_says_what_was_packed(photos: Path, tmp_path: Path) -> None:
    done = _pack(str(photos), "--cache", str(tmp_path / "cache"), "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {key: report[key] for key in ("source", "files", "train", "held_out", "lowest_px", "refused")} == {
        "source": "photos",
        "files": 11,
        "train": 10,
        "held_out": 1,
        "lowest_px": 20,
        "refused": {},
    }
    assert report["converted"] == {"L converted": 11}
    assert Path(report["folder"]).is_relative_to(tmp_path / "cache")


def test_too_many_bad_files_end_with_3_and_their_names(photos: Path) -> None:
    (photos / "bad.png").write_bytes(b"no picture")
    done = _pack(str(photos))
    assert done.returncode == 3
    assert "bad.png: not an image" in done.stderr
    assert "Traceback" not in done.stderr


def test_refused_files_below_the_limit_are_listed(photos: Path) -> None:
    (photos / "bad.png").write_bytes(b"")
    done = _pack(str(photos), "--max-bad", "0.1")
    assert done.returncode == 0, done.stderr
    assert "bad.png: empty file" in done.stdout


def test_a_missing_folder_ends_with_3() -> None:
    done = _pack("nowhere")
    assert done.returncode == 3
    assert "no images at 'nowhere'" in done.stderr
