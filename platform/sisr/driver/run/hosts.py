"""What executes a run for the driver: this process, or several on this machine; `cluster.train` has Ray's workers."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from sisr.disk.run_folder import RunFolder
from sisr.terminal.console import note
from sisr.tracking.outbox import Outbox
from sisr.training import local
from sisr.training.run import Run


class RunHost(Protocol):
    """Executes the training loop of one run, in whichever processes."""

    def __call__(self, run: Run, folder: RunFolder, tick: Callable[[], None]) -> dict[str, Any]:
        """Train until the run ends or is asked to stop, and return its last status.

        The folder is locked and holds the run's record. `tick` is to be called about twice a second meanwhile, from any
        thread: it shows the progress.

        Raises:
            SisrError: What stopped the training, for the user to read.
        """


def in_process(run: Run, folder: RunFolder, tick: Callable[[], None]) -> dict[str, Any]:
    """Host the loop in this very process; a thread shows its progress."""
    with Outbox(folder.path, tensorboard=run.options.tensorboard) as log, ticking(tick):
        return local.train_here(run, folder, log)


def in_processes(workers: int, run: Run, folder: RunFolder, tick: Callable[[], None]) -> dict[str, Any]:
    """Host the loop in plain processes on this machine."""
    with ticking(tick):
        open_log = partial(Outbox, tensorboard=run.options.tensorboard)
        return local.train_in_processes(run, folder, local.Share(workers), open_log)


@contextmanager
def stop_on_signal(folder: RunFolder) -> Iterator[None]:
    """Turn the first SIGINT, SIGTERM or SIGHUP into a request to stop, and a second one into KeyboardInterrupt.

    In a thread beside the main one, which gets no signals, nothing is turned.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    terminals = [number for number in (1, 2) if os.isatty(number)]

    def stop(number: int, frame: object) -> None:
        if number == signal.SIGHUP:
            # On a terminal that hung up, writing would be an error: it goes nowhere.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for descriptor in terminals:
                os.dup2(nowhere, descriptor)
            os.close(nowhere)
        if folder.stop_requested():
            raise KeyboardInterrupt
        folder.request_stop()
        # Not here, where the signal may have come in the middle of a line that is being written.
        threading.Thread(target=_answer, args=(folder,), name="answer", daemon=True).start()

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as `nohup` leaves it
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _answer(folder: RunFolder) -> None:
    step = folder.status().get("step")
    where = "" if step is None else f" at step {step + 1:,} or soon after"
    note(f"stopping: saving{where}; Ctrl-C once more ends it without")


@contextmanager
def ticking(tick: Callable[[], None]) -> Iterator[None]:
    """Call `tick` twice a second from a thread while the block runs."""
    done = threading.Event()

    def work() -> None:
        while not done.wait(0.5):
            tick()

    thread = threading.Thread(target=work, name="display", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
