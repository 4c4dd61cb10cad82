"""The training loop in plain processes on this machine, without Ray: for debugging, and the yardstick for tests."""

import math
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
import torch.distributed as dist

import sisr.errors
from sisr.disk.run_folder import RunFolder
from sisr.errors import OutOfMemoryError, SisrError, StoppedError
from sisr.terminal import signals
from sisr.training.device import choose_device
from sisr.training.loop import train
from sisr.training.run import Run, explain_recipe_errors
from sisr.training.session import Log, NoLog, PlainSession, closing

Reports: TypeAlias = "connection.Connection[Any, Any]"  # the pipe on which a worker reports
GRACE_S = 3.0  # how long the others are waited for when one worker has failed: they may know the cause
LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}  # nobody outside this machine may join


@dataclass(frozen=True)
class Share:
    """How many workers there are, and what they get of this machine."""

    workers: int
    threads: int | None = None  # CPU threads of each; None: an equal part
    use_gpus: bool = True


class LostWorkerError(SisrError):
    """A worker ended without a report: what it did may be repeated from the last checkpoint."""


class KilledWorkerError(LostWorkerError, OutOfMemoryError):
    """It was killed, as the system does when memory runs out."""


class EndedWorkerError(LostWorkerError, StoppedError):
    """It ended otherwise."""


class WorkerError(RuntimeError):
    """A worker raised an error that is our mistake; its traceback is the message."""


def train_here(run: Run, folder: RunFolder, log: Log) -> dict[str, Any]:
    """Train with one worker in this very process and return the run's last status."""
    with explain_recipe_errors(run):
        return train(run, folder, PlainSession(folder, choose_device()), log)


def train_in_processes(
    run: Run,
    folder: RunFolder,
    share: Share,
    open_log: Callable[[Path], Log],
    *,
    until: int | None = None,
    asked: RunFolder | None = None,
) -> dict[str, Any]:
    """Train with several workers, one process each, joined by gloo (or NCCL, one GPU each).

    However one of them ends, the others are ended soon after. They are forked from a process of their own kind, which
    has imported torch and stays until this process ends: the next ones begin at once.

    Args:
        run: What to execute.
        folder: The run's.
        share: The workers.
        open_log: Opens the run's log in the first worker, given the run's folder; it must be picklable.
        until: Stop, resumable, after this many steps; None: at the run's end.
        asked: The folder that holds a request to stop; None: the run's.

    Raises:
        SisrError: What a worker raised for the user to read; LostWorkerError where one ended without a word.
        WorkerError: A worker raised another error.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    context = _context()
    processes: dict[Reports, BaseProcess] = {}  # by the end of the pipe on which each reports; in the order of ranks
    with tempfile.TemporaryDirectory(prefix="sisr-") as meeting:
        try:
            for rank in range(share.workers):
                ours, theirs = context.Pipe(duplex=False)
                place = Place(folder, asked or folder, until, rank, share, f"{meeting}/store")
                given = (theirs, dict(os.environ), run, place, open_log)
                process = context.Process(target=_work, args=given, daemon=True)
                process.start()
                processes[ours] = process
                theirs.close()
            _wait(processes)
        finally:
            for reports, process in processes.items():  # which still run only after a failure or a second signal
                process.kill()  # they ignore gentler signals
                process.join()
                reports.close()
    return folder.status()


@dataclass(frozen=True)
class Place:
    """One worker's among the workers of a run."""

    folder: RunFolder
    asked: RunFolder
    until: int | None
    rank: int
    share: Share
    store: str  # file by which they find each other


def _context() -> Any:
    """Return the `multiprocessing` whose processes are forked from one that has imported what they need."""
    multiprocessing.set_forkserver_preload(["sisr.training.forked"])
    try:
        forkserver.ensure_running()
    except OSError:  # the temporary directory's path may be too long for its socket
        return multiprocessing.get_context("spawn")
    return multiprocessing.get_context("forkserver")


def _wait(processes: dict[Reports, BaseProcess]) -> None:
    """Return when all workers are done; raise what one of them ended with."""
    ranks = {reports: rank for rank, reports in enumerate(processes)}  # of those that have not ended
    errors: list[Exception] = []  # in the order in which they were noticed
    deadline = math.inf
    while ranks and time.monotonic() < deadline:
        patience = max(0.0, deadline - time.monotonic()) if errors else None
        for reports in cast(list[Reports], connection.wait(list(ranks), patience)):
            if error := _failure(reports, processes[reports], ranks.pop(reports)):
                errors.append(error)
                deadline = min(deadline, time.monotonic() + GRACE_S)
    if errors:
        # A peer's error, such as a lost connection, may be noticed before its cause.
        raise min(errors, key=lambda error: not isinstance(error, SisrError))


def _failure(reports: Reports, process: BaseProcess, rank: int) -> Exception | None:
    """Return the error that a worker has ended with, or None; its pipe is closed where it ended without a report."""
    try:
        kind, text = reports.recv()
    except (EOFError, OSError):
        process.join()
        return _ended(rank, process.exitcode)
    if kind == "done":
        return None
    known = getattr(sisr.errors, kind, None)
    return known(text) if known else WorkerError(f"worker {rank}: {text}")


def _ended(rank: int, code: int | None) -> LostWorkerError:
    """Return the error for a worker that ended without a report."""
    if code == -signal.SIGKILL:
        return KilledWorkerError(
            f"worker {rank} was killed, as the system does when memory runs out: fewer --workers or a smaller "
            "batch_size take less; the same command goes on from the last checkpoint"
        )
    how = f"was ended by {signal.Signals(-code).name}" if code and code < 0 else f"exited with code {code}"
    return EndedWorkerError(
        f"worker {rank} {how} in the middle of training; the same command goes on from the last checkpoint"
    )


def _work(
    reports: Reports, environment: dict[str, str], run: Run, place: Place, open_log: Callable[[Path], Log]
) -> None:
    """Be one worker; report how it ended."""
    # A killed driver must not leave workers behind that go on writing into the run's folder.
    threading.Thread(target=_end_with_driver, name="end-with-driver", daemon=True).start()
    signals.leave_to_driver()
    os.environ.clear()  # the process that it was forked from has that of the driver's first run
    os.environ.update(environment)
    report = ("done", "")
    try:
        _train(run, place, open_log)
    except SisrError as error:
        report = (type(error).__name__, str(error))
    except Exception as error:
        report = ("", "".join(traceback.format_exception(error)))
    with suppress(OSError):  # the parent is gone
        reports.send(report)
    sys.stdout.flush()
    sys.stderr.flush()
    # Not by the interpreter's own way out: gloo's threads, still ending, may abort a process that has done its work,
    # and after an error peers that wait for us are freed at once.
    os._exit(0 if report[0] == "done" else 1)


def _end_with_driver() -> None:
    """End this worker when the driver has ended; the process that it was forked from lives as long as its workers."""
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    os.kill(os.getpid(), signal.SIGKILL)


def _train(run: Run, place: Place, open_log: Callable[[Path], Log]) -> None:
    rank, size = place.rank, place.share.workers
    torch.set_num_threads(place.share.threads or max(1, len(os.sched_getaffinity(0)) // size))
    device = torch.device("cpu")
    if place.share.use_gpus and torch.cuda.is_available():
        torch.cuda.set_device(rank % torch.cuda.device_count())
        device = choose_device()
    for name, value in LOOPBACK.items():
        os.environ.setdefault(name, value)
    nccl = device.type == "cuda" and torch.cuda.device_count() >= size  # it refuses two workers on one GPU
    # Without `device_id`: beside a group that is bound to a GPU, one of gloo can't be relied on (pytorch issue 162237).
    store = dist.FileStore(place.store, size)
    dist.init_process_group("nccl" if nccl else "gloo", store=store, rank=rank, world_size=size)
    log = open_log(place.folder.path) if rank == 0 else NoLog()
    with closing(log):
        with explain_recipe_errors(run):
            train(run, place.folder, PlainSession(place.asked, device, rank, size, place.until), log)
        dist.barrier(device_ids=[device.index] if nccl else None)  # leave together
