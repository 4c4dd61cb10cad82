"""One run of a recipe file on two of Ray's workers, which is disturbed in every way and goes on each time.

A worker is killed, Ctrl-C, `kill -9` of the driver, SIGTERM; then it is left alone. What comes out is what two plain
processes make of the same file undisturbed.
"""

import signal
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from disturbed import TINY, Command, left, taken, write_recipe
from nodes import curve, digest, newest_checkpoint
from sisr.disk.run_folder import RunFolder

pytestmark = [pytest.mark.ray, pytest.mark.mlflow, pytest.mark.slow]

STEPS, EVERY = 100, 20  # evaluations, and so checkpoints, at multiples of EVERY
RATE = 1e-3
STEP_S = 0.1  # while it is disturbed


@dataclass
class Story:
    """What became of the run, command by command; each list is of steps, as they were taken."""

    run: RunFolder
    first: list[int]  # of the command during which a worker was killed
    stopped: dict[signal.Signals, "Stop"]
    killed: list[int]  # of the command that was killed
    resumed: list[int]  # of the next one
    end: tuple[int, str]  # exit code, standard error


@dataclass
class Stop:
    """How a command ended that got a signal."""

    code: int
    err: str
    status: dict[str, Any]
    saved: int  # step of the newest checkpoint
    left: list[str]  # names of its processes that outlive it


def words(recipe: Path, *extra: str) -> list[str]:
    settings = {**TINY, "learning_rate": RATE, "batch_size": 4, "steps": STEPS}
    options = {"evaluate_every": EVERY, "threads": 1, "validation_side": 48, "log_every": 1}
    asked = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    asked += [word for name, value in options.items() for word in ("--option", f"{name}={value}")]
    return ["train", str(recipe), "--name", "test", "--precision", "fp32", "--workers", "2", *asked, *extra]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> Story:
    folder = tmp_path_factory.mktemp("story")
    recipe, run = write_recipe(folder), RunFolder(folder / "runs" / "test")

    def steps() -> list[int]:
        return taken(folder, RATE)

    def disturbed() -> Command:
        return Command(*words(recipe), folder=folder, step_s=STEP_S, cache=session_cache)

    def stop(command: Command, number: int) -> Stop:
        family = command.family()
        code = command.end(number)
        return Stop(code, command.err, run.status(), newest_checkpoint(run), left(family))

    with disturbed() as command:
        command.wait_until(lambda: 0 < newest_checkpoint(run) < steps()[-1], "steps after a checkpoint")
        command.named("RayTrainWorker")[-1].kill()
        before = len(steps()) + 1  # with one that was under way
        command.wait_until(lambda: len(steps()) > before + 2, "others went on")
        interrupted = stop(command, signal.SIGINT)
    first = steps()
    begun = len(first)
    with disturbed() as command:
        saved = interrupted.status["step"]
        command.wait_until(lambda: saved < newest_checkpoint(run) < steps()[-1], "steps after another checkpoint")
        workers = command.named("RayTrainWorker")
        command.kill()
        assert left(workers) == [], "they end with their driver"
    killed = steps()[begun:]
    begun += len(killed)
    with disturbed() as command:
        command.wait_until(lambda: steps()[-1] > killed[-1], "steps after those that were lost")
        terminated = stop(command, signal.SIGTERM)
    resumed = steps()[begun:]
    with Command(*words(recipe), folder=folder, cache=session_cache) as command:
        end = command.end(), command.err
    stopped = {signal.SIGINT: interrupted, signal.SIGTERM: terminated}
    return Story(run, first, stopped, killed, resumed, end)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> RunFolder:
    """The same run in two plain processes."""
    folder = tmp_path_factory.mktemp("plain")
    with Command(*words(write_recipe(folder), "--local"), folder=folder, cache=session_cache) as command:
        assert command.end() == 0, command.err
    return RunFolder(folder / "runs" / "test")


def test_a_killed_worker_is_replaced_and_the_run_goes_on_from_a_checkpoint(story: Story) -> None:
    ((last, again),) = [(a, b) for a, b in pairwise(story.first) if b != a + 1]
    assert again <= last + 1
    assert (again - 1) % EVERY == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_exits_75_and_leaves_no_process(story: Story, number: signal.Signals) -> None:
    stop = story.stopped[number]
    assert (stop.code, stop.status["state"], stop.left) == (75, "stopped", []), stop.err
    assert "the same command goes on" in stop.err
    assert stop.saved == stop.status["step"]


def test_after_a_signal_no_step_is_taken_again(story: Story) -> None:
    assert story.killed[0] == story.stopped[signal.SIGINT].status["step"] + 1


def test_after_kill_9_of_the_driver_the_run_goes_on_from_a_checkpoint_that_this_driver_wrote(story: Story) -> None:
    assert story.killed[0] < story.resumed[0] <= story.killed[-1] + 1
    assert (story.resumed[0] - 1) % EVERY == 0


def test_whatever_happened_every_loss_and_the_end_are_those_of_two_plain_processes(
    story: Story, undisturbed: RunFolder
) -> None:
    assert story.end[0] == 0, story.end[1]
    assert curve(story.run) == curve(undisturbed), "one that came out otherwise the second time would be there, too"
    assert digest(story.run, STEPS) == digest(undisturbed, STEPS)
