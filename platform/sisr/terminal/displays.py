"""Shows how far a run is, from its `status.json`: one live line on a terminal, plain lines elsewhere."""

import time
from collections.abc import Mapping
from math import nan
from typing import Any

from rich.live import Live
from rich.text import Text

from sisr.config.wording import printable
from sisr.disk.run_folder import RunFolder
from sisr.metrics.catalogue import ALWAYS, DISTANCES, SCORE
from sisr.terminal.console import duration, err

PLAIN_EVERY_S = 10.0
LOSSES_SHOWN = 4


class Display:
    """A run's progress on stderr; use as a context manager and call `refresh` now and then."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._live = Live(console=err, refresh_per_second=2, transient=True) if err.is_terminal else None
        self._last: dict[str, Any] = {}
        self._shown_at = 0.0
        self._warned = len(folder.warnings())  # those of earlier attempts were shown then
        self._shown_validation = -1

    def __enter__(self) -> "Display":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.refresh()
        if self._live:
            self._live.stop()

    def refresh(self) -> None:
        """Show what the run's folder says now."""
        for text in self._folder.warnings()[self._warned :]:
            self._warned += 1
            err.print(f"warning: {text}", markup=False)
        status = self._folder.status()
        if not status or status == self._last:
            return
        self._last = status
        step = status.get("validation_step", -1)
        if step != self._shown_validation:
            self._shown_validation = step
            err.print(f"step {step:,}: {validation(status)}; bicubic {quality(status['baseline'])}", markup=False)
        if self._live:
            # A narrow terminal shows all of it, too.
            self._live.update(Text(printable(line(status)), no_wrap=False, overflow="fold"))
        elif status["state"] == "running" and "losses" in status and time.monotonic() - self._shown_at >= PLAIN_EVERY_S:
            self._shown_at = time.monotonic()
            err.print(line(status), markup=False)


def line(status: dict[str, Any]) -> str:
    """Return a run's progress in one line: step, rate, losses, last validation, time left, waiting for data."""
    parts = [f"step {status['step']:,}/{status['steps']:,}"]
    if "losses" in status:
        parts += [f"{status['images_per_second']:.1f} images/s", f"{duration(status['eta_s'])} left"]
        parts.append(f"waiting for data {status['data_wait_share']:.1%}")
        shown = [(name, value) for name, value in status["losses"].items() if not name.startswith("gradient_norm")]
        parts += [f"{name} {value:.4g}" for name, value in shown[:LOSSES_SHOWN]]
    if status.get("validation"):
        parts.append(validation(status))
    return " | ".join(parts)


def validation(status: dict[str, Any]) -> str:
    """Return the last validation in words."""
    return f"held-out images {quality(plain(status.get('validation', {})))}"


def quality(values: Mapping[str, float]) -> str:
    """Return what was measured in words, such as `28.99 dB PSNR-Y, 0.8123 SSIM-Y, lpips 0.2104, score +0.312`.

    Args:
        values: Metrics by name; besides PSNR and SSIM one perceptual distance and a score, or neither.
    """
    pixels = [f"{metric.text(values.get(metric.name, nan))} {metric.title}" for metric in ALWAYS]
    others = [metric for metric in (*DISTANCES, SCORE) if metric.name in values]
    return ", ".join([*pixels, *(f"{m.name} {m.text(values[m.name], signed=m is SCORE)}" for m in others)])


def plain(values: Mapping[str, Any]) -> dict[str, float]:
    """Return metrics by their names alone."""
    return {name.removeprefix("val/"): value for name, value in values.items() if name.startswith("val/")}
