"""What a trial gets of a cluster, and how many run at a time."""

import pytest

from sisr.cluster.allocation import TrialAllocation
from sisr.cluster.allocation import allocate_trials as allocate
from sisr.cluster.capacity import Capacity, NodeType, Resources
from sisr.errors import ConfigError


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


def test_the_workers_of_a_trial_share_a_machine_unless_more_trials_fit_where_they_need_not() -> None:
    cluster = nodes({"CPU": 3.0}, {"CPU": 3.0})
    assert allocate(cluster, workers=2, trials=10) == TrialAllocation(workers=2, concurrency=3, spread=True)
    assert allocate(cluster, workers=2, trials=2) == TrialAllocation(workers=2, concurrency=2)
    assert allocate(cluster, workers=2, concurrency=2, trials=10) == TrialAllocation(workers=2, concurrency=2)
    assert allocate(cluster, workers=2, trials=10, apart=True) == TrialAllocation(workers=2, concurrency=2)
    assert allocate(cluster, workers=2, trials=10, apart=True).bundle == {"CPU": 2.0}


def test_workers_are_spread_where_ray_can_t_give_all_their_parts_of_gpus_to_one_process() -> None:
    machine = nodes({"CPU": 16.0, "GPU": 4.0})
    halves, odd = (allocate(machine, workers=2, cpus=1.0, gpus=part, trials=2) for part in (0.5, 0.75))
    assert (halves.spread, halves.bundle) == (False, {"CPU": 2.0, "GPU": 1.0})
    assert odd.spread


def test_where_machines_share_no_folder_one_must_have_room_for_a_whole_trial() -> None:
    with pytest.raises(ConfigError, match="nodes with room for 4 such workers only; the workers of a trial share a"):
        allocate(nodes({"CPU": 16.0}, *[GPU_NODE] * 4), workers=2, cpus=1.0, gpus=1.0, trials=3, apart=True)


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
