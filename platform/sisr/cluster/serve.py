"""The service on Ray Serve: replicas behind one address, and a change of model in all of them without a pause.

A replica is a process with `sisr.serving` in it. It takes every request at once and refuses by its own limits, so that
Serve's queue, which answers without JSON and holds bodies without limit, stays empty.
"""

import asyncio
import contextlib
import io
import logging
import math
import os
import threading
from dataclasses import dataclass, field, replace
from typing import Any

from sisr.cluster import capacity, connection
from sisr.errors import CheckpointError, ConfigError, SisrError
from sisr.serving import proxy
from sisr.serving.limits import Limits
from sisr.serving.release import Release, ReleaseStore

NAME = "sisr"  # of the application in Serve
PLENTY = 10_000  # requests that Serve may hand to a replica at once: more than it ever takes
REPLACE_S = 120.0  # that a replica may take to load another model
QUIET = {"log_level": "WARNING", "enable_access_log": False}
STOP_S = 5.0  # that requests in work get to end when the service does


class UnreachableError(SisrError):
    """Serve, or a replica, does not answer; a replica that has ended is replaced by Serve."""


@dataclass(frozen=True, kw_only=True)
class ServiceOptions:
    """How the service runs."""

    host: str = "127.0.0.1"
    port: int = 8000
    replicas: int = 1
    gpus_per_replica: float | None = None  # fractions share a GPU; None: 1 where there are enough, else 0
    threads: int | None = None  # CPU threads of each replica; None: an equal share, or 1 beside a GPU
    at_once: int | None = None  # pictures that a replica computes at the same time; None: one a thread; 1 on a GPU
    limits: Limits = field(default_factory=Limits)
    address: str | None = None  # of a running cluster; as in `cluster.train.Scaling`
    allowed_hosts: tuple[str, ...] = ()  # names by which clients call it, besides `host`, localhost and addresses

    @property
    def names(self) -> list[str]:
        """The names that a request may call the service by."""
        return [self.host, *self.allowed_hosts]


class Service:
    """A running service, which serves at first a release that works.

    Raises:
        ConfigError: The replicas don't fit into this Ray, or a Serve runs in it already.
        CheckpointError: A replica can't use the release.
        UnreachableError: Ray Serve does not start.
    """

    def __init__(self, options: ServiceOptions, release: Release) -> None:
        connection.prepare_environment()
        limits = replace(options.limits, passing=options.limits.passing * options.replicas)
        os.environ.update(proxy.environment(limits, options.names))
        self._ray = connection.connect(options.address)
        self.release = release
        from ray import serve
        from ray.exceptions import RayError

        for name in ("ray.serve", "ray"):
            logging.getLogger(name).setLevel(logging.ERROR)
        threads, gpus = _resources(options, self._ray.cluster_resources())
        if serve.status().applications:
            raise ConfigError("a Serve runs in this Ray already; --address local starts a Ray of its own")
        try:
            self._store = self._ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(ReleaseStore).remote()
            self._ray.get(self._store.put.remote(release))
            serve.start(http_options={"host": options.host, "port": options.port}, logging_config=QUIET)
            self._handle = serve.run(_application(options, self._store, threads, gpus), name=NAME, route_prefix="/")
        except RayError as error:
            raise UnreachableError(f"Ray Serve did not start: {_last_line(error)}") from error
        except RuntimeError as error:
            raise CheckpointError(f"no replica can serve {release.name}: {_last_line(error)}") from error

    def replace(self, release: Release) -> None:
        """Serve another release; returns when every replica does.

        Raises:
            CheckpointError: A replica can't use it. All go on with the old one.
            UnreachableError: A replica does not answer; `mend` will bring all to the old one.
        """
        failures = [reason for reason in self._broadcast("replace", release) if reason]
        if failures:
            self._broadcast("replace", self.release)
            raise CheckpointError(failures[0])
        self.release = release
        self._ray.get(self._store.put.remote(release))

    def mend(self) -> None:
        """Bring replicas that were started anew meanwhile, and the store of releases, up to the release.

        Raises:
            UnreachableError: A replica does not answer; ask again.
        """
        if self._ray.get(self._store.version.remote()) != self.release.version:
            self._ray.get(self._store.put.remote(self.release))
        if any(version != self.release.version for version in self._broadcast("version")):
            self._broadcast("replace", self.release)

    def _broadcast(self, method: str, *arguments: Any) -> list[str]:
        from ray.exceptions import RayError
        from ray.serve.exceptions import RayServeException

        try:
            return list(self._handle.broadcast(method, *arguments).results(timeout_s=REPLACE_S))
        except (RayError, RayServeException, TimeoutError) as error:
            reason = _last_line(error).partition(". ")[0]  # Ray goes on with what might be the cause elsewhere
            raise UnreachableError(f"a replica does not answer: {reason}") from error


def _application(options: ServiceOptions, store: Any, threads: int, gpus: float) -> Any:
    """Return what Serve runs: replicas, each with so many CPU threads and GPUs."""
    from ray import serve

    deployment = serve.deployment(
        name="upscaler",
        num_replicas=options.replicas,
        ray_actor_options={"num_cpus": threads, "num_gpus": gpus},
        max_ongoing_requests=PLENTY,
        graceful_shutdown_timeout_s=STOP_S,
        graceful_shutdown_wait_loop_s=0.2,
        logging_config=QUIET,
    )
    at_once = options.at_once or (1 if gpus else threads)
    return deployment(serve.ingress()(_Replica)).bind(
        store, options.limits, at_once, max(1, threads // at_once), options.names, use_gpu=gpus > 0
    )


def stop() -> None:
    """End the service, whether or not it has come up, and the Ray that was started for it."""
    import ray
    from ray import serve

    # Ray reports the end of Serve's own processes as if it were a failure, on both.
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        if ray.is_initialized():
            # Where a signal has ended Ray's processes, too, Serve would wait half a minute for their answer.
            ending = threading.Thread(target=serve.shutdown, daemon=True)
            ending.start()
            ending.join(2 * STOP_S)
        connection.shutdown()


class _Replica:
    """One process that computes."""

    def __init__(self, store: Any, limits: Limits, at_once: int, threads: int, names: list[str], use_gpu: bool) -> None:
        import ray
        import torch

        from sisr.serving.engine import Engine

        # Ray believes in GPUs that its user declared; torch knows whether there is one.
        device = torch.device("cuda" if use_gpu and torch.cuda.is_available() else "cpu")
        release = ray.get(store.take.remote())
        self._names = names
        self._engine = Engine(release, device, limits, at_once, None if device.type == "cuda" else threads)

    def __serve_build_asgi_app__(self) -> Any:
        from sisr.serving.app import build

        return build(self._engine, self._names)

    async def replace(self, release: Release) -> str:
        """Serve another release; return why that is not possible, or nothing."""
        try:
            await asyncio.to_thread(self._engine.replace, release)
        except CheckpointError as error:
            return str(error)
        return ""

    async def version(self) -> str:
        return self._engine.serving.release.version


def _resources(options: ServiceOptions, cluster: dict[str, float]) -> tuple[int, float]:
    """Return the CPUs, each for a thread, and the GPUs of one replica."""
    gpus = options.gpus_per_replica
    if gpus is None:
        gpus = 1.0 if cluster.get("GPU", 0) >= options.replicas else 0.0
    threads = options.threads or (1 if gpus else max(1, math.floor(cluster.get("CPU", 1) / options.replicas)))
    for name, each in (("CPU", threads), ("GPU", gpus)):
        there = cluster.get(name, 0.0)
        if each * options.replicas > there + 1e-9 and not capacity.can_grow():
            raise ConfigError(
                f"--replicas {options.replicas} with {each:g} {name} each needs {each * options.replicas:g}, but this "
                f"Ray has {there:g}: use fewer --replicas, --threads or --gpus-per-replica"
            )
    return threads, gpus


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
