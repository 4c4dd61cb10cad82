"""The process that delivers a run's outbox to MLflow while the run goes on, and the driver's handle on it.

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
from dataclasses import dataclass
from pathlib import Path

from sisr.errors import TrackingError
from sisr.tracking import address, progress
from sisr.tracking.address import default_uri as default_uri
from sisr.tracking.redact import redact_text

MODULE = "sisr.tracking.courier"
LOG = "courier.log"
CHECK_TIMEOUT_S = 30.0
RESTARTS = 3

Say = Callable[[str], None]


@dataclass(frozen=True)
class Report:
    """How delivery stands."""

    delivered: bool  # everything in the outbox has arrived
    pending: int  # records that have not
    message: str  # for the user; empty if there is nothing to tell


def start(
    run_dir: Path, tracking_uri: str | None = None, experiment: str | None = None, say: Say | None = None
) -> "Courier":
    """Start delivering a run's outbox in a process of its own, and return at once.

    Args:
        run_dir: The run's folder.
        tracking_uri: See `address.decide`.
        experiment: See `address.decide`.
        say: Gets a line when the server stops answering and when it answers again; the default writes to stderr.

    Raises:
        TrackingError: The address of an earlier attempt had a password and must be given again.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    place = address.decide(run_dir, tracking_uri, experiment)
    address.write(run_dir, place)
    return Courier(run_dir.resolve(), place.tracking_uri, say or _to_stderr)


class Courier:
    """A running courier. One that is killed is started again."""

    def __init__(self, run_dir: Path, tracking_uri: str, say: Say):
        """Start it; see `start`."""
        self._run_dir, self._uri, self._say = run_dir, tracking_uri, say
        self._ending = self._given_up = False
        self._lock = threading.Lock()
        self._process = self._spawn()
        self._watcher = threading.Thread(target=self._watch, name="courier", daemon=True)
        self._watcher.start()

    @property
    def pid(self) -> int:
        """The process id, of the latest process where it had to be started again."""
        return self._process.pid

    def finish(self, timeout_s: float = 60.0) -> Report:
        """Let it deliver what is left, and end it: at the latest after `timeout_s`, soon if the server is down."""
        with self._lock:
            self._ending = True
            self._ask_to_end()
        self._watcher.join(timeout_s)
        with self._lock:
            self._given_up = True
            self._process.kill()
        self._watcher.join()
        return standing(self._run_dir)

    def _spawn(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", MODULE, str(self._run_dir), "--parent-pid", str(os.getpid())]
        with (self._run_dir / LOG).open("a") as log:
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
                self._say(line.rstrip())
            ended_well = self._process.wait() in (0, TrackingError.exit_code)
            with self._lock:
                if ended_well or self._given_up:
                    return
                self._process = self._spawn()
                if self._ending:
                    self._ask_to_end()


def standing(run_dir: Path) -> Report:
    """Return how far a run's outbox has been delivered to where it was recorded last."""
    place = address.read(run_dir)
    left = progress.pending(run_dir, place.run_id if place else None)
    if left == 0:
        return Report(True, 0, "")
    where = place.tracking_uri if place else "MLflow"
    return Report(False, left, f"{left} records are not at {where} yet; `sisr sync {run_dir}` delivers them")


def deliver(run_dir: Path, tracking_uri: str | None = None, experiment: str | None = None) -> Report:
    """Deliver a run's outbox now, in this process.

    Args:
        run_dir: The run's folder.
        tracking_uri: See `address.decide`.
        experiment: See `address.decide`.

    Raises:
        TrackingError: The run was deleted in MLflow, or its address had a password and must be given again.
    """
    place = address.decide(run_dir, tracking_uri, experiment)
    with exported(environment(place.tracking_uri)):
        from sisr.tracking import service

        problem = service.deliver_once(run_dir, place)
    reached = address.read(run_dir)
    there = reached is not None and reached.tracking_uri == redact_text(place.tracking_uri)
    if not there:  # what another server has received says nothing about the one that was asked for
        left = progress.pending(run_dir, None)
        return Report(left == 0, left, problem)
    report = standing(run_dir)
    return Report(report.delivered, report.pending, problem or report.message)


def require(tracking_uri: str) -> None:
    """Make sure that the server answers and lets us in.

    Raises:
        TrackingError: It does not; the message says why.
    """
    command = [sys.executable, "-m", MODULE, "--check"]
    try:
        done = subprocess.run(
            command, env=environment(tracking_uri), capture_output=True, text=True, timeout=CHECK_TIMEOUT_S
        )
        problem = done.stdout.strip() or done.stderr.strip()[-300:] if done.returncode else ""
    except subprocess.TimeoutExpired:
        problem = f"no answer within {CHECK_TIMEOUT_S:.0f} s"
    if problem:
        raise TrackingError(f"tracking server {redact_text(tracking_uri)} can't be used: {problem}")


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


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Run the courier's process."""
    parser = argparse.ArgumentParser(prog="python -m sisr.tracking.courier", description="Deliver a run's outbox.")
    parser.add_argument("run_dir", type=Path, nargs="?", help="the run's folder")
    parser.add_argument("--tracking-uri", help="default: MLFLOW_TRACKING_URI")
    parser.add_argument("--parent-pid", type=int, help="end when this process is gone or closes the standard input")
    parser.add_argument("--check", action="store_true", help="only ask the server for an answer")
    options = parser.parse_args()
    os.environ.update(environment(options.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "")))
    from sisr.tracking import service

    if options.check:
        sys.exit(service.check(os.environ["MLFLOW_TRACKING_URI"]))
    sys.exit(service.serve(options.run_dir, address.decide(options.run_dir), options.parent_pid))


if __name__ == "__main__":
    main()
