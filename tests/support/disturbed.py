"""A command of `sisr` in a process of its own, as a user starts it, for tests that kill it or send it a signal.

Its recipe comes from a file. While it is to be disturbed its steps take their time, asleep, so that what a test does
falls among them on a busy machine; commands that are to end take none.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

PATIENCE_S = 400.0
TINY = {"hr_crop": 16, "num_features": 8, "num_hr_features": 4, "num_blocks": 1}


RECIPE = '''
"""A light network that takes its time, and notes each step that it has taken."""

import os
import time
from pathlib import Path

from torch import distributed as dist

from sisr.recipes import pixelshuffle
from sisr.recipes.pixelshuffle import Config, generator, tiny

__all__ = ["Config", "Recipe", "generator", "tiny"]


class Recipe(pixelshuffle.Recipe):
    """The same network."""

    def __init__(self, config):
        """Build it."""
        super().__init__(config)
        self.notes = Path(os.environ["NOTES"], str(config.learning_rate))

    def train_step(self, lr, hr, draws, step, update):
        """Take a step."""
        time.sleep(float(os.environ["STEP_S"]))
        scalars = super().train_step(lr, hr, draws, step, update)
        if not (dist.is_initialized() and dist.get_rank()):
            with open(self.notes, "a") as file:
                file.write(f"{step + 1}\\n")
        return scalars
'''


def write_recipe(folder: Path) -> Path:
    """Write the recipe of all these commands."""
    path = folder / "slow.py"
    path.write_text(RECIPE)
    (folder / "notes").mkdir(exist_ok=True)
    return path


def taken(folder: Path, learning_rate: float) -> list[int]:
    """Return the steps that were taken at a learning rate, in that order; those that a restart repeats come again."""
    path = folder / "notes" / str(learning_rate)
    return [int(line) for line in path.read_text().split()] if path.exists() else []


class Command:
    """A running command; what of it is still alive at the end of the block is killed."""

    def __init__(self, *words: str, folder: Path, step_s: float = 0.0, cache: Path | None = None) -> None:
        """Start it in `folder`, with steps of so many seconds."""
        command = [sys.executable, "-m", "sisr.terminal.cli", *words]
        environment = (
            os.environ
            | {"STEP_S": str(step_s), "NOTES": str(folder / "notes")}
            | ({"SISR_CACHE": str(cache)} if cache else {})
        )
        piped: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process: subprocess.Popen[str] = subprocess.Popen(
            command, cwd=folder, env=environment, start_new_session=True, **piped
        )
        self.out = self.err = ""

    def __enter__(self) -> "Command":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()

    def wait_until(self, reached: Callable[[], object], what: str, every_s: float = 0.1) -> None:
        """Return once something is so; the command must still be running then, or there is nothing to disturb."""
        deadline = time.monotonic() + PATIENCE_S
        while not reached():
            assert self.process.poll() is None, f"ended before {what}: {self.process.communicate()}"
            assert time.monotonic() < deadline, f"not reached: {what}"
            time.sleep(every_s)
        assert self.process.poll() is None, f"ended when {what}: {self.process.communicate()}"

    def family(self) -> list[psutil.Process]:
        """Return the processes that it has started, those of its Ray among them."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def named(self, text: str) -> list[psutil.Process]:
        """Return those whose name has a text in it."""
        return [one for one in self.family() if text in name_of(one)]

    def end(self, number: int | None = None) -> int:
        """Send it a signal, if any, wait for its end, and return its exit code."""
        if number is not None:
            self.process.send_signal(number)
        self.out, self.err = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode

    def kill(self) -> None:
        """Kill it and its process group with SIGKILL; its Ray, whose processes are other groups, ends by itself."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def name_of(process: psutil.Process) -> str:
    """Return a process's name; empty where it has ended."""
    with suppress(psutil.NoSuchProcess):
        return process.name()
    return ""


def command_of(process: psutil.Process) -> str:
    """Return a process's command line; empty where it has ended."""
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def left(family: list[psutil.Process], patience_s: float = PATIENCE_S) -> list[str]:
    """Return the names of those processes that have not ended after a while."""
    deadline = time.monotonic() + patience_s
    while (alive := [one for one in family if is_alive(one)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return [name_of(one) for one in alive]


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process has not ended; one that nobody has waited for yet has."""
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False
