"""What the courier's process does: deliver, wait, measure the machine, and know when to end."""

import logging
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

from sisr.disk import lock
from sisr.errors import RunLockedError, TrackingError
from sisr.tracking import address, mlflow_run, outbox
from sisr.tracking.address import Address
from sisr.tracking.failures import FAILURES, OfflineError, why
from sisr.tracking.family import Family
from sisr.tracking.redact import redact_text

LOCK = ".courier.lock"  # in the folder of a run or sweep: who has it delivers
POLL_S = 1.0
MAX_PAUSE_S = 30.0
SAMPLE_S = 10.0
LAST_ATTEMPTS = 3
WRITER_PATIENCE_S = 15.0  # how long workers may go on writing when their driver was killed, and trials when it ends

# How SQLite, the system and MLflow's server say it.
FULL_DISK = ("database or disk is full", "no space left on device", "disk quota exceeded", "disk i/o error")

_log = logging.getLogger(__name__)


def serve(run_dir: Path, place: Address, parent_pid: int | None) -> int:
    """Deliver until the parent closes our standard input or is gone, then deliver the rest; return the exit code."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    ending = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    if parent_pid is not None:
        threading.Thread(target=_await_parent, args=(ending,), daemon=True).start()
    if not run_dir.is_dir():
        return 0  # moved or removed while we were starting: a lock would make it anew, and its driver says it
    try:
        with lock.held(run_dir / LOCK, give_up=ending.is_set):
            _DeliveryLoop(Family(run_dir, place, _print), parent_pid, ending).run()
    except RunLockedError:
        pass  # another courier delivers, and we were asked to end
    except TrackingError as error:
        _print(str(error))
        return TrackingError.exit_code
    return 0


def deliver_once(run_dir: Path, place: Address) -> str:
    """Deliver what a run or a sweep holds, and return what went wrong (empty: nothing)."""
    problems: list[str] = []
    try:
        with lock.held(run_dir / LOCK, give_up=lambda: True):
            family = Family(run_dir, place, problems.append)
            family.deliver(at_once=True)
            family.close_lost_runs(driver_ends=False)
            if family.files_wait:
                problems.append(f"{redact_text(place.tracking_uri)} does not store files: {family.files_wait}")
    except OfflineError as error:
        problems.append(f"{redact_text(place.tracking_uri)} does not take the records: {error}")
    except RunLockedError:
        problems.append("another process is delivering this run")
    return "; ".join(problems)


def check(place: Address, *, write: bool) -> int:
    """Try what recording a run will need, print what is wrong, and return the exit code."""
    try:
        mlflow_run.try_out(place, write=write)
    except (*FAILURES, TrackingError) as error:
        print(why(error))
        return TrackingError.exit_code
    return 0


def _await_parent(ending: threading.Event) -> None:
    sys.stdin.read()
    ending.set()


class _DeliveryLoop:
    def __init__(self, family: Family, parent_pid: int | None, ending: threading.Event):
        self._family, self._parent_pid, self._ending = family, parent_pid, ending
        self._sampler, self._next_sample = Sampler(parent_pid), time.monotonic() + SAMPLE_S
        self._failures = self._failures_at_end = 0
        self._files_waited = False
        self._patience_ends: float | None = None

    def run(self) -> None:
        while True:
            lost = self._parent_pid not in (None, os.getppid())
            ending = lost or self._ending.is_set()
            last = ending and not self._more_comes(lost)
            online = self._deliver(ending)
            if online and time.monotonic() >= self._next_sample:
                self._sample()
            complete = online and not self._family.files_wait
            self._failures_at_end += (ending and not online) or (last and not complete)
            if (last and complete) or self._failures_at_end >= LAST_ATTEMPTS:
                if last and online:
                    with suppress(OfflineError):
                        self._family.close_lost_runs(driver_ends=not lost)
                return
            self._pause(ending)

    def _deliver(self, ending: bool) -> bool:
        """Deliver what there is, and return whether the server answered."""
        server = redact_text(self._family.head.place.tracking_uri)
        try:
            self._family.deliver(at_once=ending)
        except OfflineError as error:
            _log.warning("%s", error)
            self._failures += 1
            if self._failures == 1:
                _print(f"{_trouble(server, error)}: buffering in {self._family.head.run_dir / outbox.FILE}")
            return False
        if self._failures:
            _print(f"{server} answers again: everything so far is delivered")
        self._failures = 0
        reason = self._family.files_wait
        if reason and not self._files_waited:
            _print(f"{server} does not store files ({reason}): they wait, metrics and settings arrive")
        elif self._files_waited and not reason:
            _print(f"{server} stores files again: everything so far is delivered")
        self._files_waited = bool(reason)
        return True

    def _sample(self) -> None:
        """Send how busy the machine is. What can't be sent is not kept: it says nothing about the result."""
        self._next_sample = time.monotonic() + SAMPLE_S
        now = time.time_ns() // 1_000_000
        with suppress(OfflineError):
            self._family.head.log_system(int(now / 1000 / SAMPLE_S), now, self._sampler.sample())

    def _pause(self, ending: bool) -> None:
        if ending:
            time.sleep(POLL_S)
        else:
            self._ending.wait(min(POLL_S * 2 ** min(self._failures, 10), MAX_PAUSE_S))

    def _more_comes(self, lost: bool) -> bool:
        """Whether what the driver started still writes; only for a while, since it may hang."""
        if self._patience_ends is None:
            self._patience_ends = time.monotonic() + WRITER_PATIENCE_S
        return time.monotonic() < self._patience_ends and self._family.is_written(driver_ends=not lost)


def _trouble(server: str, error: Exception) -> str:
    """Return in words why nothing is delivered now: a full disk is the disk's fault, not the server's."""
    if (file := address.database(server)) is not None:
        if any(words in str(error).lower() for words in FULL_DISK):
            return f"the disk of {file} is full"
        return f"{file} can't be written ({error})"
    return f"{server} does not answer{f' ({error})' if 'proxy' in str(error) else ''}"


def _print(line: str) -> None:
    with suppress(OSError):  # nobody may be listening any more
        print(line, flush=True)


class Sampler:
    """How busy the machine is, under the names that MLflow's page calls system metrics.

    Args:
        pid: The process whose memory is counted together with all its descendants'; `None`: no process.
    """

    def __init__(self, pid: int | None):
        self._pid = pid
        self._monitors: list[BaseMetricsMonitor] = [CPUMonitor()]
        with suppress(ImportError, RuntimeError):  # there is no NVIDIA GPU
            self._monitors.append(GPUMonitor())
        psutil.cpu_percent()  # the first call only starts the clock

    def sample(self) -> dict[str, float]:
        """Return CPU (percent since the last call), memory (MB, percent) and what NVIDIA's library says of each GPU."""
        found: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            found |= {f"system/{name}": float(value) for name, value in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
        if self._pid is not None:
            found["system/run_memory_usage_megabytes"] = round(_tree_bytes(self._pid) / 1e6, 1)
        return found


def _tree_bytes(pid: int) -> int:
    total = 0
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.Error):
                total += process.memory_info().rss
    return total
