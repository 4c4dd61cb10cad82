"""One sweep under Ray that is disturbed in every way, goes on each time, and ends as the verb `tune` promises.

`kill -9` of the driver, Ctrl-C, Ctrl-C twice; then it is left alone. Which trial reaches a step first is chance.
"""

import json
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from disturbed import TINY, Command, left, taken, write_recipe
from sisr.config.settings import read_yaml
from sisr.sweep import state
from sisr.sweep.state import Sweep
from sisr.tracking.outbox import last_status

pytestmark = [pytest.mark.ray, pytest.mark.mlflow, pytest.mark.slow]

FIXED = {**TINY, "batch_size": 2}
RUNGS, STEPS = (2, 6), 18
STEP_S = 0.7  # while it is disturbed


@dataclass
class Stop:
    """How a command ended that got a signal."""

    code: int
    err: str
    left: list[str]  # names of its processes that outlive it
    sweep: Sweep
    status: str | None  # in MLflow


@dataclass
class Story:
    """What became of the sweep, command by command."""

    folder: Path
    killed: list[dict[str, Any]]  # the ledger's rows when the driver had been killed
    stopped: Stop  # by one signal
    went_on: dict[int, list[int]]  # by trial, the steps that the next command took
    stopped_at_once: Stop  # by a second signal
    end: Stop
    printed: dict[str, Any]


def words(folder: Path) -> list[str]:
    content = {"objective": "val/psnr_y", "trials": 4, "steps": STEPS, "search": "random", "scheduler": "asha"}
    content |= {"fixed": FIXED, "space": {"learning_rate": {"loguniform": [1e-5, 1e-2]}}}
    (folder / "space.yaml").write_text(yaml.safe_dump(content))
    options = [word for option in ("threads=1", "validation_side=48", "log_every=1") for word in ("--option", option)]
    return ["tune", str(write_recipe(folder)), "--search-space", "space.yaml", "--name", "test", "--json", *options]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> Story:
    folder = tmp_path_factory.mktemp("story")
    sweep, asked = folder / "runs" / "test", words(folder)

    def command(step_s: float = 0.0) -> Command:
        return Command(*asked, folder=folder, step_s=step_s, cache=session_cache)

    def steps() -> dict[int, list[int]]:
        """Return the steps that were taken by each trial."""
        trials = state.read(sweep).trials if (sweep / "sweep.json").exists() else []
        return {trial.number: taken(folder, trial.params["learning_rate"]) for trial in trials}

    def on_the_way(before: dict[int, list[int]]) -> bool:
        """Return whether a trial that was promoted has taken steps since, with three or more to its next rung."""
        new = {number: found[len(before.get(number, [])) :] for number, found in steps().items()}
        running = [trial for trial in state.read(sweep).trials if trial.state == "running" and trial.until > RUNGS[0]]
        # What was killed on its way to the first rung takes steps since, too.
        return any(RUNGS[0] < new[trial.number][-1] <= trial.until - 3 for trial in running if new[trial.number])

    def stop(running: Command, *numbers: int) -> Stop:
        family = running.family()
        for number in numbers[:-1]:
            running.process.send_signal(number)
            running.wait_until((sweep / ".stop").exists, "the first signal was understood", every_s=0.001)
        code = running.end(numbers[-1] if numbers else None)
        return Stop(code, running.err, left(family), state.read(sweep), last_status(sweep))

    with command(STEP_S) as running:
        running.wait_until(lambda: any(row["op"] == "end" for row in state.records(sweep)), "a slice ended")
        processes = running.named("ImplicitFunc")
        running.kill()
        assert left(processes) == [], "they end with their driver"
    killed = state.records(sweep)
    before = steps()
    with command(STEP_S) as running:
        running.wait_until(lambda: on_the_way(before), "a trial was on its way to a later rung")
        stopped = stop(running, signal.SIGINT)
    known = steps()
    with command(STEP_S) as running:
        running.wait_until(lambda: on_the_way(known), "a trial was on its way again")
        stopped_at_once = stop(running, signal.SIGINT, signal.SIGINT)
    went_on = {number: found[len(known[number]) :] for number, found in steps().items() if number in known}
    with command() as running:
        end = stop(running)
    return Story(sweep, killed, stopped, went_on, stopped_at_once, end, json.loads(running.out))


def test_after_kill_9_of_the_driver_no_slice_that_had_ended_is_run_again(story: Story) -> None:
    ended = [(row["trial"], row["step"]) for row in story.killed if row["op"] == "end"]
    begun = Counter((row["trial"], row["until"]) for row in state.records(story.folder) if row["op"] == "start")
    assert ended
    assert [begun[slice_] for slice_ in ended] == [1] * len(ended)


def test_ctrl_c_saves_every_trial_exits_75_and_leaves_no_process(story: Story) -> None:
    stop = story.stopped
    assert (stop.code, stop.left) == (75, []), stop.err
    assert "the same command goes on" in stop.err
    for trial in stop.sweep.trials:
        assert trial.state in ("paused", "waiting")
        assert trial.saved or not trial.step
    assert any(trial.step not in (0, *RUNGS) for trial in stop.sweep.trials), "nobody was on the way"


def test_the_same_command_goes_on_where_every_trial_stood(story: Story) -> None:
    went_on = {number: steps for number, steps in story.went_on.items() if steps}
    assert went_on
    for number, steps in went_on.items():
        first = story.stopped.sweep.trials[number].step + 1
        assert steps == list(range(first, first + len(steps)))


def test_a_second_ctrl_c_loses_no_trial_whatever_it_was_doing(story: Story) -> None:
    stop = story.stopped_at_once
    assert stop.code in (75, 130), stop.err  # the first one may have been enough
    assert {trial.state for trial in stop.sweep.trials} <= {"paused", "waiting"}
    assert stop.status == "KILLED"


def test_it_ends_with_every_trial_once_a_leaderboard_settings_for_train_and_no_process(story: Story) -> None:
    assert (story.end.code, story.end.left) == (0, []), story.end.err
    assert story.printed["counts"] == {"finished": 1, "pruned": 3}
    steps = [row["step"] for row in story.printed["trials"]]
    assert steps[0] == STEPS
    assert set(steps[1:]) <= set(RUNGS), "whom the first rung sends on depends on who was there"
    assert [trial.number for trial in story.end.sweep.trials] == list(range(4))
    for trial in story.end.sweep.trials:
        evaluated = [step for step, _ in trial.curve]
        assert evaluated == sorted(set(evaluated)), "an evaluation counted twice"
    best = story.printed["trials"][0]
    assert dict(read_yaml(story.folder / "best.yaml")) == FIXED | best["params"]
    assert (story.folder / "results/index.html").is_file()
