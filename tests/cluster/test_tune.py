"""What a trial gets of a cluster, and slices of real trials on a real Ray."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from sisr.cluster import connection
from sisr.cluster.allocation import TrialAllocation
from sisr.cluster.allocation import allocate_trials as allocate
from sisr.cluster.capacity import Capacity, NodeType, Resources
from sisr.cluster.tune import RayTune
from sisr.driver.run.execute import Tracking
from sisr.driver.sweep.execute import execute
from sisr.driver.sweep.planning import plan_of
from sisr.errors import ConfigError
from sisr.sweep.state import Sweep


def nodes(head: Resources, *others: Resources, types: tuple[NodeType, ...] = ()) -> Capacity:
    return Capacity(head, others, types)


GPU_NODE = {"CPU": 4.0, "GPU": 1.0}


def test_on_cpus_every_trial_gets_one_and_all_of_them_are_used() -> None:
    assert allocate(nodes({"CPU": 4.0}), trials=10) == TrialAllocation(workers=1, cpus=1.0, gpus=0.0, concurrency=4)


def test_there_are_never_more_at_a_time_than_trials() -> None:
    assert allocate(nodes({"CPU": 16.0}), trials=3).concurrency == 3


def test_on_gpus_every_trial_gets_one_and_its_part_of_the_cpus() -> None:
    machine = nodes({"CPU": 16.0, "GPU": 4.0})
    assert allocate(machine, trials=10) == TrialAllocation(workers=1, cpus=4.0, gpus=1.0, concurrency=4)


def test_a_part_of_the_cpus_is_one_of_the_node_that_has_the_gpu() -> None:
    cluster = nodes({"CPU": 16.0}, *[GPU_NODE] * 4)
    assert allocate(cluster, trials=10) == TrialAllocation(workers=1, cpus=4.0, gpus=1.0, concurrency=4)


def test_trials_may_share_a_gpu() -> None:
    assert allocate(nodes({"CPU": 8.0, "GPU": 1.0}), gpus=0.25, trials=10) == TrialAllocation(
        cpus=2.0, gpus=0.25, concurrency=4
    )


def test_trials_with_workers_of_their_own_run_as_often_as_all_workers_fit() -> None:
    assert allocate(nodes({"CPU": 8.0}), workers=3, trials=10) == TrialAllocation(
        workers=3, cpus=1.0, gpus=0.0, concurrency=2
    )


def test_a_cluster_without_work_is_shared_as_its_nodes_to_come_allow() -> None:
    idle = nodes({"CPU": 0.0, "GPU": 0.0}, types=(NodeType(3, GPU_NODE), NodeType(8, {"CPU": 8.0, "GPU": 0.0})))
    assert allocate(idle, trials=24) == TrialAllocation(workers=1, cpus=4.0, gpus=1.0, concurrency=3)
    assert allocate(idle, gpus=0.0, cpus=8.0, trials=24) == TrialAllocation(
        workers=1, cpus=8.0, gpus=0.0, concurrency=8
    )


def test_nodes_of_which_nobody_knows_what_they_have_want_a_word_from_the_user() -> None:
    cluster = nodes({"CPU": 0.0}, types=(NodeType(4, None),))
    with pytest.raises(ConfigError, match=r"--gpus-per-trial .* --concurrency"):
        allocate(cluster, trials=24)
    assert allocate(cluster, gpus=1.0, concurrency=4, trials=24) == TrialAllocation(cpus=1.0, gpus=1.0, concurrency=4)


@pytest.mark.parametrize(
    ("wanted", "missing"),
    [
        ({"workers": 3}, "3 workers x 1 CPU can't fit: that is 3 CPU of 2"),
        ({"cpus": 4.0}, "4 CPU of 2"),
        ({"gpus": 1.0}, "1 GPU of 0"),
        ({"concurrency": 3}, "3 CPU of 2"),
        ({"workers": 2, "concurrency": 2}, "4 CPU of 2"),
    ],
)
def test_what_can_never_fit_is_refused_and_says_what_is_missing(wanted: dict[str, float], missing: str) -> None:
    with pytest.raises(ConfigError, match=missing):
        allocate(nodes({"CPU": 2.0}), trials=5, **wanted)  # type: ignore[arg-type]


def test_a_trial_that_no_node_has_room_for_is_refused_though_all_together_have() -> None:
    with pytest.raises(ConfigError, match="1 trials at a time x 4 CPU can't fit: there are enough in all, but nodes"):
        allocate(nodes({"CPU": 2.0}, {"CPU": 2.0}), cpus=4.0, trials=5)


TINY = {"batch_size": 2, "hr_crop": 16, "num_features": 8, "num_hr_features": 4, "num_blocks": 1}


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A Ray of two CPUs that outlives the sweeps of this file, so that what they leave behind can be seen."""
    connection.prepare_environment()
    yield connection.connect("local")
    connection.shutdown()


@pytest.fixture
def search(ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs a sweep of tiny networks, and checks that it has given everything back."""
    monkeypatch.setattr(connection, "shutdown", lambda: None)

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


def assert_everything_is_free(ray: Any, timeout_s: float = 20) -> None:
    wanted, deadline = ray.cluster_resources(), time.monotonic() + timeout_s
    while (free := ray.available_resources()).get("CPU") != wanted["CPU"] and time.monotonic() < deadline:
        time.sleep(0.2)
    assert {name: free.get(name) for name in ("CPU", "memory")} == {name: wanted[name] for name in ("CPU", "memory")}
    groups = [g for g in placement_group_table().values() if g["state"] not in ("REMOVED", "PENDING")]
    assert groups == []


def placement_group_table() -> dict[str, Any]:
    from ray.util import placement_group_table as table

    return dict(table())


@pytest.mark.ray
@pytest.mark.mlflow
@pytest.mark.slow
def test_a_diverging_trial_ends_alone_and_the_best_of_the_others_is_found(search: Any) -> None:
    found = search({"learning_rate": {"choice": [1e-4, 1e9, 1e-3, 1e-6]}}, search="grid", scheduler="asha", steps=18)
    states = [trial.state for trial in found.trials]
    assert states[1] == "diverged"
    assert "not finite" in found.trials[1].message or "not a number" in found.trials[1].message
    assert states.count("finished") == 1
    best = found.best()
    assert best is not None
    assert best.state == "finished"
    at_first = {t.number: t.values_at(2)["val/psnr_y"] for t in found.trials if t.values_at(2)}
    assert best.number == max(at_first, key=lambda number: at_first[number])


@pytest.mark.ray
@pytest.mark.mlflow
@pytest.mark.slow
def test_a_population_leaves_learning_rates_that_do_harm(search: Any) -> None:
    space = {"learning_rate": {"loguniform": [1e-5, 1.0]}}
    found = search(space, search="random", scheduler="pbt", steps=40)
    first = [trial.first_params["learning_rate"] for trial in found.trials]
    last = [trial.params["learning_rate"] for trial in found.trials]
    assert sum(len(trial.exploits) for trial in found.trials) > 0
    assert [trial.state for trial in found.trials] == ["finished"] * 4
    assert max(first) > 0.01, "the search must begin with a harmful one"
    assert max(last) < 0.01


@pytest.mark.ray
@pytest.mark.mlflow
@pytest.mark.slow
def test_a_trial_with_two_workers_copies_a_better_one_and_all_give_everything_back(search: Any, tmp_path: Path) -> None:
    space = {"learning_rate": {"loguniform": [1e-5, 1.0]}}
    every_2 = {"interval": 2}
    found = search(
        space, search="random", trials=2, scheduler="pbt", steps=6, scheduler_options=every_2, workers=2, seed=11
    )
    assert [trial.state for trial in found.trials] == ["finished", "finished"]
    copies = [trial for trial in found.trials if trial.exploits]
    assert len(copies) == 1
    assert copies[0].first_params["learning_rate"] > 0.01 > copies[0].params["learning_rate"]
    record = json.loads((tmp_path / "runs/s/trials" / copies[0].name / "run.json").read_text())
    assert record["run"]["config"]["learning_rate"] == copies[0].params["learning_rate"]


@pytest.mark.ray
@pytest.mark.mlflow
@pytest.mark.slow
def test_a_trial_whose_process_is_killed_goes_on_from_its_checkpoint(search: Any, tmp_path: Path) -> None:
    def kill() -> None:
        checkpoint = tmp_path / "runs/s/trials/0000/checkpoints"
        while not list(checkpoint.glob("step_*/manifest.json")):
            time.sleep(0.05)
        for process in psutil.Process().children(recursive=True):
            if "ImplicitFunc" in process.name() or "ImplicitFunc" in " ".join(process.cmdline()):
                process.kill()

    space = {"learning_rate": {"choice": [1e-4, 1e-3]}}
    found = search(space, search="grid", trials=2, scheduler="none", steps=2000, disturb=kill)
    assert [trial.state for trial in found.trials] == ["finished", "finished"]
    for trial in found.trials:
        assert [step for step, _ in trial.curve] == [0, *range(200, 2001, 200)]
