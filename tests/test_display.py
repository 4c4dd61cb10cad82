import io
from pathlib import Path

import pytest
from rich.console import Console

from sisr import display
from sisr.training.folder import RunFolder

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
    monkeypatch.setattr(display, "err", terminal)
    with display.Display(Folder(tmp_path)):
        pass
    words = " ".join(shown.getvalue().split())
    assert "generator/pixel 0.03189 | generator/adversarial 1.25" in words
    assert "2 h 05 min left" in words
    assert words.count("27.05 dB PSNR-Y") >= 2  # its own line, and the live one
