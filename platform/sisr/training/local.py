"""The training loop in plain processes on this machine, without Ray: for debugging, and the yardstick for tests."""

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch.multiprocessing.spawn import ProcessException

from sisr.disk.run_folder import RunFolder
from sisr.errors import SisrError
from sisr.training.loop import train
from sisr.training.run import Run, blaming, choose_device
from sisr.training.session import Log, NoLog, PlainSession

PR_SET_PDEATHSIG = 1  # prctl(2)


def train_here(run: Run, folder: RunFolder, log: Log) -> dict[str, Any]:
    """Train with one worker in this very process and return the run's last status."""
    with blaming(run):
        return train(run, folder, PlainSession(folder, choose_device()), log)


def train_in_processes(run: Run, folder: RunFolder, workers: int, open_log: Callable[[Path], Log]) -> dict[str, Any]:
    """Train with several workers, one process each, joined by gloo (or NCCL, one GPU each).

    Args:
        run: What to execute.
        folder: The run's folder.
        workers: Number of processes.
        open_log: Opens the run's log in the first worker, given the folder; must be picklable.

    Raises:
        SisrError: What a worker raised for the user to read.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.clear_failure()
    arguments = (run.model_dump(), str(folder.path), workers, _free_port(), open_log)
    group: Any = multiprocessing.start_processes(_worker, arguments, workers, join=False, start_method="spawn")
    try:
        while not group.join():
            pass
    except ProcessException as error:
        raise folder.failure() or error from None
    finally:
        for process in group.processes:
            process.kill()  # they ignore gentler signals; here only after a failure or a second signal
    return folder.status()


def _worker(
    rank: int, fields: dict[str, Any], folder_path: str, workers: int, port: int, open_log: Callable[[Path], Log]
) -> None:
    # A killed parent must not leave workers behind that go on writing into the run's folder.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # Ctrl-C reaches every process of the terminal; the parent turns it into a request to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // workers))
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if torch.cuda.is_available():
        torch.cuda.set_device(rank % torch.cuda.device_count())
    one_gpu_each = torch.cuda.is_available() and torch.cuda.device_count() >= workers
    dist.init_process_group("nccl" if one_gpu_each else "gloo", rank=rank, world_size=workers)
    folder = RunFolder(Path(folder_path))
    log = open_log(folder.path) if rank == 0 else NoLog()
    try:
        with blaming(run := Run(**fields)):
            train(run, folder, PlainSession(folder, choose_device(), rank, workers), log)
        dist.barrier()  # leave together
    except SisrError as error:
        folder.report_failure(error)
        raise
    finally:
        log.close()
        dist.destroy_process_group()  # after an error this frees the peers that wait for us
    # Not by the interpreter's own way out: gloo's threads, still ending, may abort a process that has done its work.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
