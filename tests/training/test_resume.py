"""Training 2N steps equals training N, being killed, and resuming: byte for byte in the complete state."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from sisr import recipes
from sisr.disk.run_folder import RunFolder
from sisr.errors import OutOfMemoryError
from sisr.training.local import Share, train_here, train_in_processes
from sisr.training.run import Options, Run
from sisr.training.session import NoLog

STEPS, EVALUATE_EVERY, KILLED_AT = 12, 4, 7


def tiny_run(recipe: str) -> Run:
    config = recipes.load(recipe).tiny().model_dump(mode="json") | {"steps": STEPS, "batch_size": 6}
    options = Options(precision="fp32", evaluate_every=EVALUATE_EVERY, log_every=1, threads=1, validation_side=48)
    return Run(name="test", recipe=recipe, config=config, options=options, data="demo")


class KillsItsProcess(NoLog):
    """A log that ends its process as `kill -9` does, at one step, once the checkpoint before it is written."""

    def __init__(self) -> None:
        self._saved = threading.Event()

    def flush(self) -> None:  # behind a save
        self._saved.set()

    def metrics(self, step: int, values: dict[str, float]) -> None:
        if step == KILLED_AT and self._saved.wait(60):
            os.kill(os.getpid(), signal.SIGKILL)


def log_that_kills(path: Path) -> NoLog:
    return KillsItsProcess()


def plain_log(path: Path) -> NoLog:
    return NoLog()


def train(folder: Path, recipe: str, workers: int, *, killed: bool) -> None:
    """Train in processes of its own, so that nothing survives in memory."""
    if workers > 1:
        with pytest.raises(OutOfMemoryError, match="worker 0 was killed") if killed else nullcontext():
            log = log_that_kills if killed else plain_log
            train_in_processes(tiny_run(recipe), RunFolder(folder), Share(workers), log)
        return
    command = [sys.executable, __file__, str(folder), recipe, "killed" if killed else ""]
    # Another hash seed and another start-up in each process: nothing may be right by accident.
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode != 0) == killed, done.stdout + done.stderr


def final_digest(folder: Path) -> str:
    manifest = folder / "checkpoints" / f"step_{STEPS:09d}" / "manifest.json"
    return str(json.loads(manifest.read_text())["digest"])


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize(("recipe", "workers"), [("pixelshuffle", 1), ("srez", 3)])
def test_a_killed_and_resumed_run_equals_an_undisturbed_one(tmp_path: Path, recipe: str, workers: int) -> None:
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    if workers > 1:
        train(straight, recipe, workers, killed=False)
    else:
        train_here(tiny_run(recipe), RunFolder(straight), NoLog())
    train(resumed, recipe, workers, killed=True)
    kept = sorted(f.name for f in (resumed / "checkpoints").glob("step_*"))
    assert kept == ["step_000000004"], "killed after the first checkpoint and before the second"
    train(resumed, recipe, workers, killed=False)
    assert final_digest(resumed) == final_digest(straight)


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_the_number_of_workers_does_not_change_the_batches_or_the_result(tmp_path: Path) -> None:
    one, three = tmp_path / "one", tmp_path / "three"
    exact = tiny_run("pixelshuffle")
    exact = exact.model_copy(update={"options": exact.options.model_copy(update={"precision": "fp64"})})
    here = train_here(exact, RunFolder(one), NoLog())
    there = train_in_processes(exact, RunFolder(three), Share(3), plain_log)
    assert there["validation"] == pytest.approx(here["validation"], abs=1e-9)


@pytest.mark.slow
def test_evaluation_does_not_disturb_training(tmp_path: Path) -> None:
    often, rarely = tiny_run("srez"), tiny_run("srez")
    often = often.model_copy(update={"options": often.options.model_copy(update={"evaluate_every": 1})})
    train_here(often, RunFolder(tmp_path / "often"), NoLog())
    train_here(rarely, RunFolder(tmp_path / "rarely"), NoLog())
    states = [state_parts(tmp_path / name) for name in ("often", "rarely")]
    assert states[0] == states[1]


def state_parts(folder: Path) -> str:
    from sisr.training.checkpoint_files import load_state
    from sisr.training.digest import digest

    state = load_state(folder / "checkpoints" / f"step_{STEPS:09d}")
    return digest({name: state[name] for name in ("parts", "ema", "random")})


@pytest.mark.slow
def test_a_request_to_stop_saves_at_the_current_step(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")

    class Stops(NoLog):
        def metrics(self, step: int, values: dict[str, float]) -> None:
            if step == KILLED_AT:
                folder.request_stop()

    status = train_here(tiny_run("pixelshuffle"), folder, Stops())
    assert (status["state"], status["step"]) == ("stopped", KILLED_AT)
    folder.clear_stop()
    status = train_here(tiny_run("pixelshuffle"), folder, NoLog())
    assert status["state"] == "finished"
    train_here(tiny_run("pixelshuffle"), RunFolder(tmp_path / "straight"), NoLog())
    assert final_digest(folder.path) == final_digest(tmp_path / "straight")


@pytest.fixture(scope="module")
def whole_and_cut(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> tuple[str, Path]:
    """The final digest of a run, and the folder of the same run stopped after its first third."""
    place = tmp_path_factory.mktemp("saved")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SISR_CACHE", str(session_cache))
        train_here(tiny_run("srez"), RunFolder(place / "straight"), NoLog())
        run_until(RunFolder(place / "cut"), tiny_run("srez"), EVALUATE_EVERY)
    return final_digest(place / "straight"), place / "cut"


@pytest.mark.slow
@pytest.mark.parametrize(
    "part", ["generator", "discriminator", "generator_optimizer", "discriminator_optimizer", "ema"]
)
def test_every_saved_part_matters(tmp_path: Path, part: str, whole_and_cut: tuple[str, Path]) -> None:
    """Resuming with one part left at its start must not end in the same state, or saving it proves nothing."""
    from sisr.training import state as state_module

    whole, stopped = whole_and_cut
    cut = RunFolder(shutil.copytree(stopped, tmp_path / "cut"))
    restore = state_module.TrainingState.restore

    def forgetful(self: Any, saved: dict[str, Any], session: Any) -> None:
        fresh = self.capture(session)
        if part == "ema":
            saved["ema"] = fresh["ema"]
        else:
            saved["parts"][part] = fresh["parts"][part]
        restore(self, saved, session)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_module.TrainingState, "restore", forgetful)
        train_here(tiny_run("srez"), cut, NoLog())
    assert final_digest(cut.path) != whole


def run_until(folder: RunFolder, run: Run, step: int) -> None:
    class Stops(NoLog):
        def metrics(self, at: int, values: dict[str, float]) -> None:
            if at == step:
                folder.request_stop()

    train_here(run, folder, Stops())
    folder.clear_stop()


if __name__ == "__main__":
    place, name, kill = sys.argv[1:]
    train_here(tiny_run(name), RunFolder(Path(place)), KillsItsProcess() if kill else NoLog())
