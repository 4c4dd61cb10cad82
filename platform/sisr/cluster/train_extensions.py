"""What is added to Ray Train: how its workers find each other, and what its controller does beside watching them.

Ray's own set-up of workers lets torch's store listen on all interfaces, where it answers whoever connects, without a
check; ours listens on one address only. The controller's process imports this module, but no torch.
"""

import socket
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import ray
from ray._private.ray_constants import env_integer
from ray.exceptions import GetTimeoutError, RayError
from ray.train.backend import Backend, BackendConfig
from ray.train.constants import (
    DEFAULT_TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S,
    TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S,
)
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.controller.state import ResizingState
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2._internal.util import TrainingFramework
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from sisr.cluster.saving import save_now
from sisr.errors import RunLockedError, SisrError

if TYPE_CHECKING:
    from torch.distributed import TCPStore

_served: list["TCPStore"] = []  # in the first worker's process, for as long as it lives


class OneAddressBackend(Backend):
    """What Ray's torch backend does, but for the store."""

    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: "OneAddressConfig") -> None:
        """Join the workers to one process group."""
        timeout_s, world = backend_config.timeout_s, len(worker_group)
        address, port = worker_group.execute_single(0, serve_store, timeout_s)
        joining = [
            worker_group.execute_single_async(i, _join, backend_config.backend, i, world, address, port, timeout_s)
            for i in range(world)
        ]
        ray.get(joining)

    def on_shutdown(self, worker_group: Any, backend_config: BackendConfig) -> None:
        """Let the workers leave their process group, and wait for that only so long."""
        leaving = worker_group.execute_async(_leave, len(worker_group) > 1)
        wait_s = env_integer(TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S, DEFAULT_TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S)
        with suppress(GetTimeoutError):
            ray.get(leaving, timeout=wait_s)


@dataclass
class OneAddressConfig(BackendConfig):
    """Of the workers' process group: torch's name of its kind, and how long one of them waits for another."""

    backend: str
    timeout_s: int

    @property
    def backend_cls(self) -> type[OneAddressBackend]:
        return OneAddressBackend

    @property
    def train_func_context(self) -> Any:
        from ray.train.torch.config import TorchConfigContextManager

        return TorchConfigContextManager

    @property
    def framework(self) -> TrainingFramework:
        return TrainingFramework.TORCH


def serve_store(timeout_s: int) -> tuple[str, int]:
    """Start the store in this process, and return the address of this node at which it listens."""
    from torch.distributed import TCPStore

    address = ray.util.get_node_ip_address()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, 0), family=family, backlog=2048)
    port = int(listener.getsockname()[1])
    timeout, handle = timedelta(seconds=timeout_s), listener.detach()
    _served[:] = [
        TCPStore(address, port, is_master=True, wait_for_workers=False, timeout=timeout, master_listen_fd=handle)
    ]
    return address, port


def _join(backend: str, rank: int, world: int, address: str, port: int, timeout_s: int) -> None:
    import torch.distributed as dist
    from ray.train.torch.config import _set_torch_distributed_env_vars

    _set_torch_distributed_env_vars()
    timeout = timedelta(seconds=timeout_s)
    store = dist.TCPStore(address, port, world_size=world, is_master=False, timeout=timeout)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=timeout)


def _leave(of_several: bool) -> None:
    from ray.train.torch.config import _shutdown_torch

    _shutdown_torch(destroy_process_group=of_several)


class Trainer(DataParallelTrainer):
    """Ray's trainer without what runs of ours don't use: each helper is a process, which takes a second to start."""

    unused: tuple[type, ...] = (DatasetsCallback,)

    def _create_default_callbacks(self) -> list[Any]:
        callbacks: list[Any] = super()._create_default_callbacks()
        return [one for one in callbacks if not isinstance(one, self.unused)]


class TrainerOfOwnRay(Trainer):
    """A trainer in a Ray that ends with its driver.

    There nobody needs Ray's cleaner, which gives back the reservation of a run whose controller was killed, nor asks an
    autoscaler for room.
    """

    unused = (DatasetsCallback, PlacementGroupCleanerCallback)

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        """Run the controller in a process that Ray has ready: all of this Ray's have their environment from here."""
        if isinstance(parts["scaling_policy"], FixedScalingPolicy):
            parts["scaling_policy"] = UnannouncedScaling(self.scaling_config)
        controller = ray.remote(num_cpus=0)(TrainController).remote(**parts)
        ray.get(controller.run.remote())
        return ray.get(controller.get_result.remote())


class UnannouncedScaling(FixedScalingPolicy):
    """A fixed number of workers, of which no autoscaler is told."""

    def after_controller_start(self, train_run_context: Any) -> None:
        """Announce nothing."""

    def _maybe_send_resource_request(self) -> None:
        """Announce nothing."""


class SaveBeforeResizing(ControllerCallback, WorkerGroupCallback):
    """Lets workers save a checkpoint before they are stopped to begin again in another number."""

    def after_worker_group_start(self, worker_group: Any) -> None:
        self._workers = worker_group

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        """Let the first worker save, and wait for it; if it can't, the run begins at its last checkpoint."""
        if isinstance(current_state, ResizingState):
            with suppress(RayError):  # a worker was lost meanwhile: nothing to save
                self._workers.execute_single(0, save_now)


class EndOnError(WorkerGroupCallback):
    """Ends a run at once when one worker raises an error for the user, while the others may wait for that worker.

    Ray itself would start all workers again, as often as it does after the loss of a node.
    """

    def after_worker_group_poll_status(self, worker_group_status: Any) -> None:
        """Raise the error, which makes it the controller's own: Ray tries nothing again after one.

        But a lock may be held by a worker of the attempt before, on a node that was cut off: Ray tries again.
        """
        for error in worker_group_status.errors.values():
            if isinstance(error, SisrError) and not isinstance(error, RunLockedError):
                raise error
