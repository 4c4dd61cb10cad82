"""Runs and sweeps in one Ray that outlives them: how they end, and that they give everything back."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

import outside_recipe
from disturbed import command_of
from sisr.cluster import allocation, connection, early, train
from sisr.cluster.tune import RayTune
from sisr.driver.run import execute as runs
from sisr.driver.run.execute import Tracking
from sisr.driver.run.workers import exactly
from sisr.driver.sweep.execute import execute
from sisr.driver.sweep.planning import plan_of
from sisr.errors import SisrError
from sisr.sweep import state
from sisr.sweep.state import Sweep
from sisr.training.run import Options

pytestmark = [pytest.mark.ray, pytest.mark.mlflow, pytest.mark.slow]

TINY = {"batch_size": 2, "hr_crop": 16, "num_features": 8, "num_hr_features": 4, "num_blocks": 1}


@pytest.fixture(scope="module")
def started() -> Iterator[Any]:
    """A Ray of two CPUs, started as `sisr train` does."""
    before = signal.getsignal(signal.SIGTERM)
    early.begin("local")
    yield connection.connect("local")
    connection.shutdown()
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def ray(started: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """That Ray, which no command ends."""
    monkeypatch.setattr(connection, "shutdown", lambda: None)
    monkeypatch.setattr(train, "leave", lambda: None)
    return started


def test_a_worker_is_as_nice_as_its_driver_and_not_behind_all_other_programs(ray: Any) -> None:
    assert ray.get(ray.remote(lambda: os.nice(0)).remote()) == os.nice(0)


def test_sigterm_is_the_driver_s_alone(ray: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """Ray's own handler would print a stack, and abort the process by an alarm 3 s later."""
    before = signal.getitimer(signal.ITIMER_REAL)[0]  # of this test's time limit
    with pytest.raises(SystemExit) as end:
        signal.raise_signal(signal.SIGTERM)
    assert end.value.code == 128 + signal.SIGTERM
    assert signal.getitimer(signal.ITIMER_REAL)[0] == pytest.approx(before, abs=10)
    assert capfd.readouterr().err == ""


FAILS = """if step == 7 and __import__("torch").distributed.get_rank() == 1:
            open({path!r}, "a").write(f"{{__import__('time').time()}}\\n")
            {how}
        loss = pixel.l1"""
HOW = {
    "raises": "raise ArithmeticError('the seventh step')",
    "is killed": "__import__('os').kill(__import__('os').getpid(), 9)",
}


@pytest.mark.parametrize(
    ("how", "workers", "restarts", "code", "message"),
    [
        ("raises", 2, 3, 2, "ArithmeticError: the seventh step"),
        ("is killed", 3, 0, 75, "a worker was lost, and --max-failures 0 allows no further restart"),
    ],
)
def test_a_worker_that_fails_ends_the_run_at_once(
    ray: Any, tmp_path: Path, how: str, workers: int, restarts: int, code: int, message: str
) -> None:
    failed_at = tmp_path / "failed_at"
    failing = FAILS.format(path=str(failed_at), how=HOW[how])
    recipe = outside_recipe.write(tmp_path, "espcn.py", ("loss = pixel.l1", failing))
    order = runs.Order(
        recipe=str(recipe),
        values={"steps": 20, "batch_size": 6, "hr_crop": 32, "num_features": 4},
        options=Options(evaluate_every=5, validation_side=48, precision="fp32"),
        name="r",
        workers=exactly(workers),
    )
    scaling = train.Scaling(workers=exactly(workers), cpus_per_worker=0.5, max_failures=restarts)
    with pytest.raises(SisrError, match=message) as raised:
        runs.execute(order, Tracking(), partial(train.on_ray, scaling))
    ended_at = time.time()
    assert raised.value.exit_code == code
    assert json.loads(Path("runs/r/status.json").read_text())["state"] == ("failed" if how == "raises" else "stopped")
    (moment,) = failed_at.read_text().split()  # one: nothing was started again
    assert ended_at - float(moment) < 240, "15 s on a quiet machine; a worker that waited in vain would take 300"
    assert_everything_is_free(ray)


@pytest.fixture
def search(ray: Any, tmp_path: Path) -> Any:
    """Return a function that runs a sweep of tiny networks, and checks that it has given everything back."""

    def run(
        space: dict[str, Any],
        *,
        workers: int = 1,
        scheduler_options: dict[str, Any] | None = None,
        seed: int = 0,
        disturb: Callable[[], None] | None = None,
        **file: Any,
    ) -> Sweep:
        path = tmp_path / "space.yaml"
        content = {"objective": "val/psnr_y", "trials": 4, "fixed": TINY, "space": space}
        path.write_text(yaml.safe_dump(content | file))
        plan, found = plan_of(
            "pixelshuffle",
            name="s",
            search_space=path,
            options={"threads": 1, "validation_side": 48, "perceptual": "none"},
            scheduler_options=scheduler_options,
            seed=seed,
        )
        thread = threading.Thread(target=disturb) if disturb else None
        if thread:
            thread.start()
        result = execute(plan, found, RayTune(workers=workers), Tracking(), runs=tmp_path / "runs")
        if thread:
            thread.join()
        assert_everything_is_free(ray)
        return result

    return run


def assert_everything_is_free(ray: Any, timeout_s: float = 120) -> None:
    wanted, deadline = ray.cluster_resources(), time.monotonic() + timeout_s
    while (free := ray.available_resources()).get("CPU") != wanted["CPU"] and time.monotonic() < deadline:
        time.sleep(0.2)
    assert {name: free.get(name) for name in ("CPU", "memory")} == {name: wanted[name] for name in ("CPU", "memory")}
    groups = [g for g in placement_group_table().values() if g["state"] not in ("REMOVED", "PENDING")]
    assert groups == []


def placement_group_table() -> dict[str, Any]:
    from ray.util import placement_group_table as table

    return dict(table())


def test_a_diverging_trial_ends_alone_and_the_best_of_the_others_is_found(search: Any) -> None:
    found = search({"learning_rate": {"choice": [1e-4, 1e9, 1e-3, 1e-6]}}, search="grid", scheduler="asha", steps=18)
    states = [trial.state for trial in found.trials]
    assert states[1] == "diverged"
    assert "not finite" in found.trials[1].message or "not a number" in found.trials[1].message
    assert states.count("finished") == 1
    best = found.best()
    assert best is not None
    assert best.state == "finished"
    # Whoever was first at a rung may have gone on, too; but the best there did, in whatever order they came.
    assert best_at(found, 2) in values_at(found, 6)
    assert best_at(found, 6) == best.number


def values_at(sweep: Sweep, step: int) -> dict[int, float]:
    """Return what was measured at a step, by trial."""
    return {t.number: values["val/psnr_y"] for t in sweep.trials if (values := t.values_at(step))}


def best_at(sweep: Sweep, step: int) -> int:
    """Return the number of the trial that was the best at a step."""
    found = values_at(sweep, step)
    return max(found, key=lambda number: found[number])


def test_a_population_leaves_a_learning_rate_that_does_harm_at_the_first_comparison(
    search: Any, tmp_path: Path
) -> None:
    space, every_4 = {"learning_rate": {"loguniform": [1e-5, 1.0]}}, {"interval": 4}
    # Long enough that nobody, whoever is slow, has ended when the harmful one looks for a better one.
    found = search(space, search="random", scheduler="pbt", steps=16, scheduler_options=every_4)
    assert [trial.state for trial in found.trials] == ["finished"] * 4
    first = [trial.first_params["learning_rate"] for trial in found.trials]
    harmful = max(range(4), key=lambda number: first[number])
    assert first[harmful] > 0.01
    # Its values at step 4, and those of whom it is compared with, depend on nobody's order; how far that one is does.
    told = [row["op"] for row in state.records(tmp_path / "runs/s") if row.get("trial") == harmful]
    assert told[:4] == ["trial", "start", "end", "exploit"]


def test_a_trial_that_no_machine_has_room_for_is_a_run_of_ray_train(
    search: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here its workers come to one machine all the same: it has room for both."""
    monkeypatch.setattr(allocation, "_fit_together", lambda *_: 0)
    space = {"learning_rate": {"choice": [1e-3, 1e-4]}}
    (trial,) = search(space, search="random", workers=2, trials=1, scheduler="none", steps=4).trials
    assert (trial.state, trial.step) == ("finished", 4)


def test_a_trial_with_two_workers_copies_a_better_one_and_all_give_everything_back(search: Any, tmp_path: Path) -> None:
    space = {"learning_rate": {"loguniform": [1e-3, 1.0]}}  # without the recipe's own, which would come first
    options = {"trials": 2, "scheduler": "pbt", "steps": 4, "scheduler_options": {"interval": 2}, "seed": 1}
    worse, better = search(space, search="random", workers=2, **options).trials
    assert (worse.state, better.state) == ("finished", "finished")
    assert worse.first_params["learning_rate"] > 0.1 > 0.01 > better.first_params["learning_rate"]
    assert [(copy.step, copy.donor) for copy in worse.exploits] == [(2, better.number)]
    assert not better.exploits
    record = json.loads((tmp_path / "runs/s/trials" / worse.name / "run.json").read_text())
    assert record["run"]["config"]["learning_rate"] == worse.params["learning_rate"] < 0.01


@pytest.mark.parametrize(("workers", "steps", "victim"), [(1, 1000, "ImplicitFunc"), (2, 300, "forkserver")])
def test_a_trial_of_which_a_process_is_killed_goes_on_from_its_checkpoint(
    search: Any, tmp_path: Path, workers: int, steps: int, victim: str
) -> None:
    killed = []

    def kill() -> None:
        checkpoint = tmp_path / "runs/s/trials/0000/checkpoints"
        while not list(checkpoint.glob("step_*/manifest.json")):
            time.sleep(0.05)
        for process in psutil.Process().children(recursive=True):
            if victim in process.name() + command_of(process) and not process.children():  # not the workers' server
                process.kill()
                killed.append(process.pid)

    space = {"learning_rate": {"choice": [1e-4, 1e-3]}}
    found = search(space, search="grid", trials=2, scheduler="none", steps=steps, workers=workers, disturb=kill)
    assert killed
    assert [trial.state for trial in found.trials] == ["finished", "finished"]
    for trial in found.trials:
        assert [step for step, _ in trial.curve] == [*range(0, steps + 1, steps // 10)]
