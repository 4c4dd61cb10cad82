"""How Ray Train's workers find each other: by a store that listens on one address only.

Ray's own set-up lets torch's store listen on all interfaces, where it answers whoever connects, without a check.
"""

import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import ray
import torch.distributed as dist
from ray.train.torch import TorchConfig
from ray.train.torch.config import _set_torch_distributed_env_vars, _TorchBackend
from torch.distributed import TCPStore

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
        """Return the backend."""
        return OneAddressBackend


def serve_store(timeout_s: int) -> tuple[str, int]:
    """Start the store in this process, and return the address of this node at which it listens."""
    address = ray.util.get_node_ip_address()
    listener = socket.create_server(
        (address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET, backlog=2048
    )
    port = int(listener.getsockname()[1])
    _served[:] = [
        TCPStore(
            address,
            port,
            is_master=True,
            wait_for_workers=False,
            timeout=timedelta(seconds=timeout_s),
            master_listen_fd=listener.detach(),
        )
    ]
    return address, port


def _join(backend: str, rank: int, world: int, address: str, port: int, timeout_s: int) -> None:
    timeout = timedelta(seconds=timeout_s)
    store = TCPStore(address, port, world_size=world, is_master=False, timeout=timeout)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=timeout)
