"""What a trial gets of a cluster, and slices of real trials on a real Ray."""

import pytest

from sisr.cluster.tune import Share, share
from sisr.errors import ConfigError


def test_on_cpus_every_trial_gets_one_and_all_of_them_are_used() -> None:
    assert share({"CPU": 4.0}, trials=10) == Share(workers=1, cpus=1.0, gpus=0.0, concurrency=4)


def test_there_are_never_more_at_a_time_than_trials() -> None:
    assert share({"CPU": 16.0}, trials=3).concurrency == 3


def test_on_gpus_every_trial_gets_one_and_its_part_of_the_cpus() -> None:
    assert share({"CPU": 16.0, "GPU": 4.0}, trials=10) == Share(workers=1, cpus=4.0, gpus=1.0, concurrency=4)


def test_trials_may_share_a_gpu() -> None:
    assert share({"CPU": 8.0, "GPU": 1.0}, gpus=0.25, trials=10) == Share(cpus=2.0, gpus=0.25, concurrency=4)


def test_trials_with_workers_of_their_own_run_as_often_as_all_workers_fit() -> None:
    assert share({"CPU": 8.0}, workers=3, trials=10) == Share(workers=3, cpus=1.0, gpus=0.0, concurrency=2)


@pytest.mark.parametrize(
    ("wanted", "missing"),
    [
        ({"workers": 3}, "3 CPU of 2"),
        ({"cpus": 4.0}, "4 CPU of 2"),
        ({"gpus": 1.0}, "1 GPU of 0"),
        ({"concurrency": 3}, "3 CPU of 2"),
        ({"workers": 2, "concurrency": 2}, "4 CPU of 2"),
    ],
)
def test_what_can_never_fit_is_refused_and_says_what_is_missing(wanted: dict[str, float], missing: str) -> None:
    with pytest.raises(ConfigError, match=missing):
        share({"CPU": 2.0}, trials=5, **wanted)  # type: ignore[arg-type]
