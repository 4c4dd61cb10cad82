"""`sisr pack`: the verdicts as a table and as JSON, and its exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sisr.terminal import cli


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(11):
        Image.fromarray(np.full((20 + i, 30), i, np.uint8)).save(folder / f"{i:02d}.png")
    return folder


def _pack(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sisr.pipelines.pack", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


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


def test_train_accepts_what_pack_accepts(tmp_path: Path, capsys, monkeypatch) -> None:
    for i in range(5):
        Image.fromarray(np.full((70 + i, 80, 3), i, np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "bad.png").write_bytes(b"")
    monkeypatch.setenv("SISR_CACHE", str(tmp_path / "cache"))
    words = ["train", "pixelshuffle", "--data", str(tmp_path), "--set", "hr_crop=64", "--dry-run"]
    for more, code in (([], 3), (["--max-bad", "0.2"], 0)):
        with pytest.raises(SystemExit) as ended:
            cli.main([*words, *more])
        assert int(ended.value.code or 0) == code
    assert json.loads(capsys.readouterr().out)["data"]["refused"] == {"empty file": 1}


def test_training_says_on_which_of_the_held_out_images_it_is_validated(tmp_path: Path, capsys, monkeypatch) -> None:
    for folder, numbers in (("DIV2K_train_HR", range(2)), ("DIV2K_valid_HR", range(20))):
        (tmp_path / folder).mkdir()
        for i in numbers:
            Image.fromarray(np.full((70, 80, 3), i, np.uint8)).save(tmp_path / folder / f"{folder[6]}{i:02d}.png")
    monkeypatch.setenv("SISR_CACHE", str(tmp_path / "cache"))
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "pixelshuffle", "--data", f"div2k:{tmp_path}", "--set", "hr_crop=64", "--dry-run"])
    assert not ended.value.code
    said = capsys.readouterr()
    data = json.loads(said.out)["data"]
    assert (data["held_out"], data["held_out_of"], len(data["validated_on"])) == (16, 20, 16)
    assert "validation while training uses 16 of 20 held-out images, DIV2K_valid_HR/v" in said.err
