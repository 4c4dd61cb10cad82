"""The training loop in plain processes on this machine, without Ray: for debugging, and the yardstick for tests."""

import ctypes
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import sisr.errors
from sisr.disk.run_folder import RunFolder
from sisr.errors import OutOfMemoryError, SisrError, StoppedError
from sisr.training.loop import train
from sisr.training.run import Run, choose_device, explain_recipe_errors
from sisr.training.session import Log, NoLog, PlainSession, closing

PR_SET_PDEATHSIG = 1  # prctl(2)
GRACE_S = 3.0  # how long the others are waited for when one worker has failed: they may know the cause
LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}  # nobody outside this machine may join


class WorkerError(RuntimeError):
    """A worker raised an error that is our mistake; its traceback is the message."""


def train_here(run: Run, folder: RunFolder, log: Log) -> dict[str, Any]:
    """Train with one worker in this very process and return the run's last status."""
    with explain_recipe_errors(run):
        return train(run, folder, PlainSession(folder, choose_device()), log)


def train_in_processes(run: Run, folder: RunFolder, workers: int, open_log: Callable[[Path], Log]) -> dict[str, Any]:
    """Train with several workers, one process each, joined by gloo (or NCCL, one GPU each).

    However one of them ends, the others are ended soon after.

    Args:
        run: What to execute.
        folder: The run's folder.
        workers: Number of processes.
        open_log: Opens the run's log in the first worker, given the folder; must be picklable.

    Raises:
        SisrError: What a worker raised for the user to read; OutOfMemoryError where one was killed, StoppedError where
            one ended otherwise.
        WorkerError: A worker raised another error.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sisr-") as meeting:
        group = _Group(run, folder, workers, Path(meeting) / "store", open_log)
        try:
            group.wait()
        finally:
            group.kill()  # they ignore gentler signals; here only after a failure or a second signal
    return folder.status()


@dataclass
class _Worker:
    """One worker's process, the end of the pipe on which it reports, and what it has reported."""

    rank: int
    process: BaseProcess
    reports: "connection.Connection[Any, Any]"
    done: bool = False
    error: Exception | None = None

    @property
    def has_ended(self) -> bool:
        return self.done or self.error is not None


@dataclass
class _Group:
    """The processes of a run."""

    run: Run
    folder: RunFolder
    size: int
    store: Path
    open_log: Callable[[Path], Log]
    workers: list[_Worker] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)  # in the order in which they were noticed

    def __post_init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        for rank in range(self.size):
            ours, theirs = context.Pipe(duplex=False)
            given = (rank, self.run.model_dump(), str(self.folder.path), self.size, str(self.store), self.open_log)
            process = context.Process(target=_work, args=(theirs, *given), daemon=True)
            process.start()
            theirs.close()
            self.workers.append(_Worker(rank, process, ours))

    def wait(self) -> None:
        """Return when all workers are done.

        Raises:
            SisrError: See `train_in_processes`; WorkerError, too.
        """
        deadline = float("inf")
        while (running := [w for w in self.workers if not w.has_ended]) and time.monotonic() < deadline:
            patience = max(0.0, deadline - time.monotonic()) if self.errors else None
            for ready in connection.wait([w.reports for w in running], patience):
                self._hear(next(w for w in running if w.reports is ready))
            if self.errors:
                deadline = min(deadline, time.monotonic() + GRACE_S)
        if self.errors:
            # A peer's error, such as a lost connection, may be noticed before its cause.
            raise min(self.errors, key=lambda error: not isinstance(error, SisrError))

    def kill(self) -> None:
        """End all processes that still run."""
        for worker in self.workers:
            worker.process.kill()
            worker.process.join()
            worker.reports.close()

    def _hear(self, worker: _Worker) -> None:
        """Take a worker's report; its pipe is closed where it ended without one."""
        try:
            kind, text = worker.reports.recv()
        except (EOFError, OSError):
            worker.process.join()
            worker.error = _ended(worker.rank, worker.process.exitcode)
        else:
            worker.done = kind == "done"
            if not worker.done:
                known = getattr(sisr.errors, kind, None)
                worker.error = known(text) if known else WorkerError(f"worker {worker.rank}: {text}")
        if worker.error:
            self.errors.append(worker.error)


def _ended(rank: int, code: int | None) -> SisrError:
    """Return the error for a worker that ended without a report."""
    if code == -signal.SIGKILL:
        return OutOfMemoryError(
            f"worker {rank} was killed, as the system does when memory runs out: fewer --workers or a smaller "
            "batch_size take less; the same command goes on from the last checkpoint"
        )
    how = f"was ended by {signal.Signals(-code).name}" if code and code < 0 else f"exited with code {code}"
    return StoppedError(
        f"worker {rank} {how} in the middle of training; the same command goes on from the last checkpoint"
    )


def _work(
    reports: "connection.Connection[Any, Any]",
    rank: int,
    fields: dict[str, Any],
    folder: str,
    size: int,
    store: str,
    open_log: Callable[[Path], Log],
) -> None:
    """Be one worker; report how it ended."""
    # A killed parent must not leave workers behind that go on writing into the run's folder.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # Ctrl-C reaches every process of the terminal; the parent turns it into a request to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    report = ("done", "")
    try:
        _train(Run(**fields), RunFolder(Path(folder)), rank, size, store, open_log)
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


def _train(run: Run, folder: RunFolder, rank: int, size: int, store: str, open_log: Callable[[Path], Log]) -> None:
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // size))
    if torch.cuda.is_available():
        torch.cuda.set_device(rank % torch.cuda.device_count())
    for name, value in LOOPBACK.items():
        os.environ.setdefault(name, value)
    backend = "nccl" if torch.cuda.is_available() and torch.cuda.device_count() >= size else "gloo"
    dist.init_process_group(backend, store=dist.FileStore(store, size), rank=rank, world_size=size)
    log = open_log(folder.path) if rank == 0 else NoLog()
    with closing(log):
        with explain_recipe_errors(run):
            train(run, folder, PlainSession(folder, choose_device(), rank, size), log)
        dist.barrier()  # leave together
