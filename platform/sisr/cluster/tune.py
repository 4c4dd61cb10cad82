"""Ray Tune as the host of a sweep: places slices of trials on the cluster, and repeats those whose process was lost.

What runs next is decided by the sweep's driver from its own ledger, and where a trial stands is known from its own
verified checkpoints. Tune asks for slices through a `Searcher` and calls one function for each (`cluster.slices`). Its
schedulers and its experiment state are not used: a slice ends by itself, and a trial that is not worth more gets no
further one. Nobody is killed in the middle, which is what leaks the reservations of trials that have workers of their
own (Ray pull request 58515).
"""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from sisr.cluster import capacity, connection, node_checks
from sisr.cluster.allocation import TrialAllocation, allocate_trials
from sisr.driver.sweep.host import SliceSource
from sisr.storage.ownership import found_owned

RETRIES = 2  # of a slice whose process was lost
# Of a trial whose workers may be on several machines: its process and Ray Train's controller, which wait for them only.
# Tune wants a head bundle that is not empty (Ray pull request 15338); a CPU in it would be one less for the workers.
SPREAD_DRIVER = {"memory": 512 * 2**20}


@dataclass(frozen=True, kw_only=True)
class RayTune:
    """A `SweepHost`: what every trial gets, and which Ray runs it."""

    workers: int = 1  # of each trial
    cpus_per_worker: float | None = None  # None: 1, or a worker's part of a node beside a GPU
    gpus_per_worker: float | None = None  # fractions share one; None: 1 where there may be enough, else 0
    concurrency: int | None = None  # trials at a time; None: as many as fit
    address: str | None = None  # of a running Ray; None: this machine's, if any, else our own

    def run(self, source: SliceSource, folder: Path, trials: int) -> None:
        """Connect to Ray, and let Tune run slices; see `SweepHost`."""
        ray = connection.connect(self.address)
        cluster = capacity.read(ray)
        owned = found_owned(folder)
        apart = owned is not None and node_checks.may_have_others(ray, cluster.grows)
        if owned and apart:
            node_checks.check_storage(ray, owned.bucket.address)
        else:
            node_checks.check(ray, folder, grows=cluster.grows)
        allocation = allocate_trials(
            cluster,
            workers=self.workers,
            cpus=self.cpus_per_worker,
            gpus=self.gpus_per_worker,
            concurrency=self.concurrency,
            trials=trials,
            apart=apart,
        )
        scratch = folder / "ray"
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            _fit(source, allocation, scratch, folder if apart else None)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def close(self) -> None:
        """Leave Ray; one that was started here ends."""
        connection.shutdown()


def _fit(source: SliceSource, allocation: TrialAllocation, scratch: Path, apart: Path | None) -> None:
    """Let Tune run slices until the source has no more, and raise what the source has raised.

    `apart` is the sweep's folder where other machines do not reach it, and None where they do.
    """
    from ray import tune
    from ray.tune import FailureConfig, RunConfig, TuneConfig

    from sisr.cluster.slices import SliceSearcher, run_slice
    from sisr.cluster.trial_folders import open_desk

    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    bundle = SPREAD_DRIVER if allocation.spread else allocation.bundle
    searcher = SliceSearcher(source, allocation, open_desk(apart) if apart else None)
    tuner = tune.Tuner(
        tune.with_resources(run_slice, tune.PlacementGroupFactory([bundle])),
        tune_config=TuneConfig(
            search_alg=searcher,
            num_samples=-1,  # as many as the searcher has
            max_concurrent_trials=allocation.concurrency,
            reuse_actors=True,
            trial_name_creator=str,
        ),
        run_config=RunConfig(
            name="slices",
            storage_path=str(scratch),
            verbose=0,
            failure_config=FailureConfig(max_failures=RETRIES),
        ),
    )
    try:
        tuner.fit()
    except Exception:
        if searcher.error is None:
            raise
    if searcher.error is not None:
        raise searcher.error
