"""What is added to Ray Train: how its workers find each other, and what its controller does beside watching them.

Ray's own set-up of workers lets torch's store listen on all interfaces, where it answers whoever connects, without a
check; ours listens on one address only.
"""

import socket
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import ray
import torch.distributed as dist
from ray.exceptions import RayError
from ray.train.torch import TorchConfig
from ray.train.torch.config import _set_torch_distributed_env_vars, _TorchBackend
from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback
from ray.train.v2._internal.execution.controller.state import ResizingState
from torch.distributed import TCPStore

from sisr.cluster.worker import save_now
from sisr.errors import RunLockedError, SisrError

_served: list[TCPStore] = []  # in the first worker's process, for as long as it lives


class OneAddressBackend(_TorchBackend):
    """Ray's torch backend, but for the store."""

    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        """Join the workers to one process group."""
        timeout_s, world = backend_config.timeout_s, len(worker_group)
        address, port = worker_group.execute_single(0, serve_store, timeout_s)
        worker_group.execute(_set_torch_distributed_env_vars)
        joining = [
            worker_group.execute_single_async(i, _join, backend_config.backend, i, world, address, port, timeout_s)
            for i in range(world)
        ]
        ray.get(joining)


@dataclass
class OneAddressConfig(TorchConfig):
    """Ray's configuration of torch, with `OneAddressBackend`; `backend` must be named."""

    @property
    def backend_cls(self) -> type[OneAddressBackend]:
        return OneAddressBackend


def serve_store(timeout_s: int) -> tuple[str, int]:
    """Start the store in this process, and return the address of this node at which it listens."""
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
    timeout = timedelta(seconds=timeout_s)
    store = TCPStore(address, port, world_size=world, is_master=False, timeout=timeout)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=timeout)


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
