"""A disk that fills up in the middle of a run: a real file system of a few megabytes."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sisr import recipes
from sisr.disk.run_folder import RunFolder
from sisr.driver.run import execute, hosts
from sisr.errors import DiskError
from sisr.tracking.outbox import Outbox
from sisr.training.local import train_here
from sisr.training.run import Options, Run

PHOTOS = Path(__file__).parent / "recorded_run" / "photos"
FULL_AT = 5  # step
VALUES = {"scale": 2, "hr_crop": 16, "batch_size": 2, "blur_sigma_max": 0.5, "num_features": 4, "steps": 16}
OPTIONS = Options(precision="fp32", threads=1, evaluate_every=2, validation_side=16, perceptual="none", log_every=1)


@pytest.fixture
def disk(tmp_path: Path, session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file system of 4 MB."""
    monkeypatch.setenv("SISR_CACHE", str(session_cache))
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path) -> None:
    """Take all room that is left."""
    with suppress(OSError), open(disk / "filler", "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


class Fills(Outbox):
    """A log that fills the disk at one step; behind each save, whole or failed, it is flushed."""

    flushed = 0

    def metrics(self, step: int, values: dict[str, float]) -> None:  # type: ignore[override]
        if step == FULL_AT:
            while self.flushed < (FULL_AT - 1) // 2:  # a thread still saves the step before
                time.sleep(0.01)
            fill(self.run_dir.parent)
        super().metrics(step, values)

    def flush(self) -> None:
        self.flushed += 1
        super().flush()


class FillsForAWhile(Fills):
    """Frees the disk behind the second failed save."""

    def flush(self) -> None:
        if self.flushed == (FULL_AT - 1) // 2 + 1:
            (self.run_dir.parent / "filler").unlink()
        super().flush()


def run() -> Run:
    config = recipes.load("pixelshuffle").tiny().model_dump(mode="json") | VALUES
    return Run(name="t", recipe="pixelshuffle", config=config, options=OPTIONS, data=str(PHOTOS))


def test_training_goes_on_while_the_disk_is_full_for_a_while(disk: Path) -> None:
    folder = RunFolder(disk / "t")
    with FillsForAWhile(folder.path) as log:
        status = train_here(run(), folder, log)
    assert (status["state"], status["step"]) == ("finished", 16)
    failed = [line for line in folder.warnings() if "was not saved" in line]
    assert [line.split(" was")[0] for line in failed] == [f"the checkpoint of step {step}" for step in (6, 8)]
    assert all("No space left on device" in line and line.endswith("training goes on") for line in failed)


def test_the_third_failed_save_ends_the_run_with_path_and_bytes_and_the_same_command_goes_on(
    disk: Path, no_courier: None
) -> None:
    def host(run: Run, folder: RunFolder, tick: object) -> dict[str, object]:
        with Fills(folder.path) as log:
            return train_here(run, folder, log)

    order = execute.Order(recipe="pixelshuffle", values=VALUES, options=OPTIONS, data=str(PHOTOS), name="t", runs=disk)
    told = (
        rf"checkpoint of step 10 was not saved: {disk}/t/checkpoints/step_000000010 can't be written: No space left on "
        r"device \(0.0 MiB free\); it takes about \d+,\d{3} bytes \(3 times in a row\)"
    )
    with pytest.raises(DiskError, match=told):
        execute.execute(order, execute.Tracking(), host)
    (disk / "filler").unlink()
    status = execute.execute(order, execute.Tracking(), hosts.in_process)
    assert (status["state"], status["step"]) == ("finished", 16)
