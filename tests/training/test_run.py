import json
from pathlib import Path
from typing import Any

import pytest

from sisr.disk.run_folder import RunFolder, check_name
from sisr.errors import ConfigError
from sisr.terminal.console import duration
from sisr.terminal.displays import Display, parts
from sisr.training.run import Options, Run, read, record


def run(**changes: Any) -> Run:
    fields: dict[str, Any] = {"name": "a", "recipe": "srez", "config": {"steps": 5, "scale": 4}, "data": "demo"}
    return Run(**{"options": Options(), "fingerprint": "f", **fields, **changes})


@pytest.mark.parametrize("name", ["a", "srez-1a2b", "A.b_c-9", "0" * 64])
def test_a_plain_name_is_a_runs_name(name: str) -> None:
    assert check_name(name) == name


NAMES = [
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "/etc",
    "a..b",
    ".hidden",
    "-x",
    "a b",
    "a\\b",
    "a\0b",
    "a\nb",
    "0" * 65,
    "ä",
    "%2e%2e",
    "~",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_could_leave_its_folder_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="run name"):
        check_name(name)


def test_the_hash_tells_runs_apart_and_ignores_what_only_watches_them() -> None:
    base = run().config_hash
    assert run(name="b").config_hash == base
    assert run(config={"steps": 9, "scale": 4}).config_hash == base
    assert run(options=Options(log_every=7, perceptual="none")).config_hash == base
    others = [run(options=Options(seed=1)), run(fingerprint="g"), run(config={"steps": 5, "scale": 2}), run(recipe="x")]
    assert len({base, *(other.config_hash for other in others)}) == 5


def test_a_recorded_run_reads_back(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    record(folder, run(), {"data": {"train": 3}}, {"a.png": "00"})
    assert read(folder) == run()
    assert folder.file_hashes() == {"a.png": "00"}
    assert json.loads((tmp_path / "run/run.json").read_text())["data"] == {"train": 3}


def test_the_progress_line_names_rate_losses_validation_time_left_and_waiting() -> None:
    status = {
        "step": 1500,
        "steps": 2000,
        "images_per_second": 50.04,
        "eta_s": 3725.0,
        "data_wait_share": 0.0623,
        "losses": {"generator/pixel": 0.0123456, "gradient_norm/x": 1.0},
        "validation": {"val/psnr_y": 28.987, "val/ssim_y": 0.81234},
    }
    assert parts(status) == [
        "step 1,500/2,000",
        "1 h 02 min left",
        "50.0 images/s",
        "waiting for data 6.2%",
        "generator/pixel 0.01235",
    ]


def test_durations_are_read_easily() -> None:
    assert [duration(s) for s in (None, 7.9, 200, 7500, 1e6)] == ["?", "7 s", "3 min 20 s", "2 h 05 min", "11 days"]


def test_a_workers_warning_reaches_the_user_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder(tmp_path)
    folder.warn("from an earlier attempt")
    display = Display(folder)
    folder.warn("checkpoint passed over:\nstep 5")
    display.refresh()
    display.refresh()
    assert capsys.readouterr().err == "warning: checkpoint passed over: step 5\n"
