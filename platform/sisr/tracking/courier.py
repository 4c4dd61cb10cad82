"""The process that delivers a run's or a sweep's outboxes to MLflow while it goes on, and the driver's handle on it.

The trainer never imports mlflow: only the courier does, at low priority. It may be killed, and the server may be down
or hang: the outbox keeps what is not delivered, and the next courier or `sisr sync` goes on where the last one stopped.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from sisr.disk.sweep_folder import sweep_of, trials
from sisr.errors import TrackingError
from sisr.tracking import address, progress
from sisr.tracking.address import Address
from sisr.tracking.redact import redact_text

MODULE = "sisr.tracking.courier"
LOG = "courier.log"
CHECK_TIMEOUT_S = 30.0
RESTARTS = 3

Notify = Callable[[str], None]


@dataclass(frozen=True)
class DeliveryState:
    """How delivery stands."""

    delivered: bool  # everything in the outbox has arrived; of a sweep: everything in its trials' too
    pending: int  # records that have not
    message: str  # for the user; empty if there is nothing to report
    trials: dict[str, int] = field(default_factory=dict)  # of a sweep: how many of `pending` are whose


def start(
    folder: Path, tracking_uri: str | None = None, experiment: str | None = None, notify: Notify | None = None
) -> "Courier":
    """Start delivering in a process of its own, and return at once.

    Args:
        folder: Of a run, or of a sweep (it holds sweep.json): then all its trials are delivered too, as they appear.
            Of a trial: means its sweep.
        tracking_uri: See `address.decide`.
        experiment: See there.
        notify: Gets a line when the server stops answering and when it answers again; the default writes to stderr.

    Raises:
        TrackingError: The address of an earlier attempt had a password and must be given again.
    """
    folder = sweep_of(folder) or folder
    folder.mkdir(parents=True, exist_ok=True)
    place = address.decide(folder, tracking_uri, experiment)
    address.write(folder, place)
    notify = notify or (lambda line: print(line, file=sys.stderr, flush=True))
    return Courier(folder.resolve(), place.tracking_uri, notify)


class Courier:
    """A running courier; see `start`. One that is killed is started again."""

    def __init__(self, folder: Path, tracking_uri: str, notify: Notify):
        self._folder, self._uri, self._notify = folder, tracking_uri, notify
        self._ending = self._given_up = False
        self._lock = threading.Lock()
        self._process = self._spawn()
        self._watcher = threading.Thread(target=self._watch, name="courier", daemon=True)
        self._watcher.start()

    @property
    def pid(self) -> int:
        """The process id, of the latest process where it had to be started again."""
        return self._process.pid

    def finish(self, timeout_s: float = 60.0) -> DeliveryState:
        """Let it deliver the rest, and end it: at the latest after `timeout_s`, soon if the server is down."""
        with self._lock:
            self._ending = True
            self._ask_to_end()
        self._watcher.join(timeout_s)
        with self._lock:
            self._given_up = True
            self._process.kill()
        self._watcher.join()
        return standing(self._folder)

    def _spawn(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", MODULE, str(self._folder), "--parent-pid", str(os.getpid())]
        with (self._folder / LOG).open("a") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment(self._uri),
                start_new_session=True,  # Ctrl-C is for the driver; the courier ends after it
            )

    def _ask_to_end(self) -> None:
        """Ask through the pipe: a signal would end a process that is only just starting."""
        with contextlib.suppress(OSError, ValueError):
            assert self._process.stdin is not None
            self._process.stdin.close()

    def _watch(self) -> None:
        for _ in range(RESTARTS + 1):
            assert self._process.stdout is not None
            for line in self._process.stdout:
                self._notify(line.rstrip())
            ended_well = self._process.wait() in (0, TrackingError.exit_code)
            with self._lock:
                if ended_well or self._given_up:
                    return
                self._process = self._spawn()
                if self._ending:
                    self._ask_to_end()


def standing(folder: Path) -> DeliveryState:
    """Return how far the outboxes of a run, a sweep or a trial have been delivered to where they were recorded last."""
    place = address.recorded(folder)
    report = _count(folder, place)
    if report.delivered:
        return report
    where = place.tracking_uri if place else "MLflow"
    message = f"{report.pending} records are not at {where} yet; `sisr sync {folder}` delivers them"
    return replace(report, message=message)


def deliver(folder: Path, tracking_uri: str | None = None, experiment: str | None = None) -> DeliveryState:
    """Deliver the outboxes of a run or a sweep (of a trial: its sweep's) now, in this process; see `address.decide`.

    Raises:
        TrackingError: The run was deleted in MLflow, or its address had a password and must be given again.
    """
    folder = sweep_of(folder) or folder
    place = address.decide(folder, tracking_uri, experiment)
    with exported(environment(place.tracking_uri)):
        from sisr.tracking import service

        problem = service.deliver_once(folder, place)
    reached = address.read(folder)
    if reached is None or reached.tracking_uri != redact_text(place.tracking_uri):
        # What another server has received says nothing about the one that was asked for.
        return replace(_count(folder, None), message=problem)
    report = standing(folder)
    return replace(report, message=problem or report.message)


def _count(folder: Path, place: Address | None) -> DeliveryState:
    """Return what of a run or a sweep has arrived at `place`, without a message; `None`: nothing has."""
    of_trials = {
        trial.name: progress.pending(trial, address.of_trial(trial, place).run_id if place else None)
        for trial in trials(folder)
    }
    pending = progress.pending(folder, place.run_id if place else None) + sum(of_trials.values())
    return DeliveryState(pending == 0, pending, "", of_trials)


def require(place: Address, *, write: bool = True) -> None:
    """Try what recording a run at `place` will need: a run with a metric and a file, which is removed again.

    Without `write` it only asks whether the server answers, and leaves nothing there.

    Raises:
        TrackingError: It is not possible; the message says why.
    """
    command = [sys.executable, "-m", MODULE, "--check", "write" if write else "read", "--experiment", place.experiment]
    command += ["--run-id", place.run_id] if place.run_id else []
    try:
        done = subprocess.run(
            command, env=environment(place.tracking_uri), capture_output=True, text=True, timeout=CHECK_TIMEOUT_S
        )
        problem = done.stdout.strip() or done.stderr.strip()[-300:] if done.returncode else ""
    except subprocess.TimeoutExpired:
        problem = f"no answer within {CHECK_TIMEOUT_S:.0f} s"
    if problem:
        raise TrackingError(f"tracking server {redact_text(place.tracking_uri)} can't be used: {problem}")


def environment(tracking_uri: str) -> dict[str, str]:
    """Return the environment of a process that imports mlflow. The address travels in it: `ps` shows command lines."""
    return {**address.ENVIRONMENT, **os.environ, "MLFLOW_TRACKING_URI": tracking_uri, "OMP_NUM_THREADS": "1"}


@contextlib.contextmanager
def exported(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for the block only: the next run may be recorded elsewhere."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def main() -> None:
    """Run the courier's process."""
    parser = argparse.ArgumentParser(prog="python -m sisr.tracking.courier", description="Deliver outboxes.")
    parser.add_argument("folder", type=Path, nargs="?", help="of the run or sweep")
    parser.add_argument("--parent-pid", type=int, help="end when this process is gone or closes the standard input")
    parser.add_argument("--check", choices=["read", "write"], help="only try whether a run can be recorded")
    parser.add_argument("--experiment", help="for --check")
    parser.add_argument("--run-id", help="for --check: the run that is to go on")
    options = parser.parse_args()
    server = os.environ["MLFLOW_TRACKING_URI"]
    os.environ.update(environment(server))
    if not options.check:
        os.nice(15)  # as Ray's workers have; training comes first, also while mlflow is imported
    from sisr.tracking import service

    if options.check:
        place = Address(server, options.experiment, options.run_id)
        sys.exit(service.check(place, write=options.check == "write"))
    code = service.serve(options.folder, address.at(options.folder, server), options.parent_pid)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)  # the driver waits for the end: not for mlflow's modules to be taken to pieces


if __name__ == "__main__":
    main()
