import io
from pathlib import Path

import pytest
from rich.console import Console

from sisr.disk.journal import rows
from sisr.disk.run_folder import RunFolder
from sisr.driver.run import execute, record
from sisr.terminal import displays
from sisr.tracking import outbox
from sisr.training.run import Options, Run

STATUS = {
    "state": "running",
    "step": 1200,
    "steps": 100_000,
    "images_per_second": 88.7,
    "eta_s": 7500,
    "data_wait_share": 0.01,
    "losses": {"generator/pixel": 0.03189, "generator/adversarial": 1.25},
    "validation": {"val/psnr_y": 27.05, "val/ssim_y": 0.7756},
    "validation_step": 1000,
    "baseline": {"psnr_y": 27.1},
}


class Folder(RunFolder):
    """A run's folder that stands still."""

    def status(self) -> dict[str, object]:
        """Return what stands in it."""
        return STATUS


def test_a_narrow_terminal_shows_losses_and_validation_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, width=60, soft_wrap=True, highlight=False)
    monkeypatch.setattr(displays, "err", terminal)
    with displays.Display(Folder(tmp_path)):
        pass
    words = " ".join(shown.getvalue().split())
    assert "generator/pixel 0.03189 | generator/adversarial 1.25" in words
    assert "2 h 05 min left" in words
    assert words.count("27.05 dB PSNR-Y") >= 2  # its own line, and the live one


FINISHED = STATUS | {
    "run": "r1",
    "folder": "runs/r1",
    "state": "finished",
    "step": 2000,
    "validation": {"val/psnr_y": 27.05, "val/ssim_y": 0.7756, "val/swd": 61.25, "val/score": 0.312},
    "baseline": {"psnr_y": 27.1, "ssim_y": 0.78, "swd": 95.0},
    "protocol": "Y|crop=scale|swd",
}


def test_the_summary_shows_every_measure_beside_bicubics() -> None:
    assert execute.summary(FINISHED).splitlines() == [
        "run r1 finished at step 2,000",
        "held-out images: 27.05 dB PSNR-Y, 0.7756 SSIM-Y, swd 61.2, score +0.312",
        "bicubic:         27.10 dB PSNR-Y, 0.7800 SSIM-Y, swd 95.0 (Y|crop=scale|swd)",
        "model: runs/r1/model    samples: runs/r1/samples",
    ]


def test_the_summary_names_an_earlier_checkpoint_only_if_it_was_better_by_what_counts() -> None:
    better_psnr = {"step": 1500, "val/psnr_y": 28.0, "val/ssim_y": 0.79, "val/swd": 80.0, "val/score": 0.2}
    by_score = FINISHED | {"best": better_psnr | {"by": "val/score"}}
    assert "earlier" not in execute.summary(by_score)
    by_psnr = execute.summary(FINISHED | {"best": better_psnr})  # as older versions wrote it
    assert by_psnr.endswith(
        "an earlier checkpoint was better: 28.00 dB PSNR-Y, 0.7900 SSIM-Y, swd 80.0, score +0.200 at step 1,500 (kept)"
    )


def test_the_evaluation_line_shows_the_distance_of_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Finished(RunFolder):
        def status(self) -> dict[str, object]:
            return FINISHED

    displays.Display(Finished(tmp_path)).refresh()
    said = " ".join(capsys.readouterr().err.split())
    assert "27.05 dB PSNR-Y, 0.7756 SSIM-Y, swd 61.2, score +0.312; bicubic 27.10 dB PSNR-Y, 0.7800 SSIM-Y" in said


def test_every_validated_metric_becomes_a_final_one(tmp_path: Path) -> None:
    run = Run(name="r1", recipe="srez", config={}, options=Options(), data="demo")
    record.close(run, RunFolder(tmp_path), {**FINISHED, "state": "stopped"})
    written = [row for row, _ in rows(tmp_path / outbox.FILE) if row and row["op"] == "metrics"]
    assert [row["step"] for row in written] == [2000]
    assert written[0]["values"] == {
        "final/psnr_y": 27.05,
        "final/ssim_y": 0.7756,
        "final/swd": 61.25,
        "final/score": 0.312,
    }
