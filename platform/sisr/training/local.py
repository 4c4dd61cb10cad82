"""The training loop in plain processes on this machine, without Ray: for debugging, and the yardstick for tests."""

import ctypes
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from sisr.training.loop import train
from sisr.training.run import Run, RunFolder, choose_device
from sisr.training.session import Log, NoLog, PlainSession

PR_SET_PDEATHSIG = 1  # prctl(2)


def train_here(run: Run, folder: RunFolder, log: Log) -> dict[str, Any]:
    """Train with one worker in this very process and return the run's last status."""
    return train(run, folder, PlainSession(folder, choose_device()), log)


def train_in_processes(run: Run, folder: RunFolder, workers: int, open_log: Callable[[Path], Log]) -> dict[str, Any]:
    """Train with several workers, one process each, joined by gloo (or NCCL, one GPU each).

    Args:
        run: What to execute.
        folder: The run's folder.
        workers: Number of processes.
        open_log: Opens the run's log in the first worker, given the folder; must be picklable.
    """
    port = _free_port()
    arguments = (run.model_dump(), str(folder.path), workers, port, open_log)
    multiprocessing.start_processes(_worker, arguments, nprocs=workers, start_method="spawn")
    return folder.status()


def _worker(
    rank: int, run: dict[str, Any], folder_path: str, workers: int, port: int, open_log: Callable[[Path], Log]
) -> None:
    # A killed parent must not leave workers behind that go on writing into the run's folder.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # Ctrl-C reaches every process of the terminal; the parent turns it into a request to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if torch.cuda.is_available():
        torch.cuda.set_device(rank % torch.cuda.device_count())
    backend = "nccl" if torch.cuda.is_available() and torch.cuda.device_count() >= workers else "gloo"
    dist.init_process_group(backend, rank=rank, world_size=workers)
    folder = RunFolder(Path(folder_path))
    log = open_log(folder.path) if rank == 0 else NoLog()
    train(Run(**run), folder, PlainSession(folder, choose_device(), rank, workers), log)
    log.flush()
    dist.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
