"""Run a function in two processes that form a gloo group, as two workers on one machine do."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from forks import forkserver

WORLD = 2


@pytest.fixture
def forked_workers() -> None:
    """Let the workers of `train_in_processes` be forked from the process that other tests use, too."""
    forkserver()


def on_two_workers(function: Callable[[int], Any], folder: Path) -> list[Any]:
    """Return [function(0), function(1)], each computed in a process of its own."""
    forkserver()
    mp.start_processes(_worker, args=(function, str(folder)), nprocs=WORLD, start_method="forkserver")
    return [torch.load(folder / f"result_{rank}.pt", weights_only=True) for rank in range(WORLD)]


def _worker(rank: int, function: Callable[[int], Any], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORLD)
    try:
        torch.save(function(rank), f"{folder}/result_{rank}.pt")
        dist.barrier()  # leave together
    except BaseException:
        dist.destroy_process_group()
        raise
    # Not by the interpreter's own way out: gloo's threads, still ending, may abort a process that has done its work.
    os._exit(0)
