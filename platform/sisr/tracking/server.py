"""MLflow's server on this machine: for this machine only unless told otherwise, no jobs, no telemetry."""

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from sisr.errors import ConfigError, TrackingError
from sisr.tracking import address, store
from sisr.tracking.courier import environment

HOST, ANY = "127.0.0.1", "0.0.0.0"
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0


class Server:
    """A running `mlflow server` on a database, and all processes that it started; `wait` says when it answers.

    It listens at this machine's address `host`; `0.0.0.0`: at all. `log` gets what it prints.
    """

    def __init__(self, tracking_uri: str, port: int, log: Path, host: str = HOST):
        self.url = f"http://{HOST if host == ANY else host}:{port}"
        self._log = log
        command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
        if host not in (HOST, ANY):  # those, and private addresses, MLflow answers by itself
            command += ["--allowed-hosts", f"{host}:{port},localhost:{port},{HOST}:{port}"]
        store.rebase(tracking_uri)
        if artifacts := address.artifact_location(tracking_uri):
            command += ["--artifacts-destination", artifacts]
        # The database's address may hold a password, and `ps` shows command lines: it goes by the environment.
        settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_BACKEND_STORE_URI": tracking_uri}
        inherited = {k: v for k, v in environment(tracking_uri).items() if k != "MLFLOW_TRACKING_URI"}
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                command,
                env=inherited | settings,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,  # so that all its processes can be ended together
            )

    def wait(self) -> None:
        """Return when the server answers.

        Raises:
            TrackingError: It ended, or did not answer in time.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=5):
                return
            time.sleep(0.25)
        self.stop()
        tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-5:])
        raise TrackingError(f"MLflow's server did not start; the reason is in {self._log}:\n{tail}")

    def join(self) -> None:
        """Return when the server ends."""
        self._process.wait()

    def stop(self) -> None:
        """End the server and every process it started."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """End the server and every process it started without warning."""
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def free_port(port: int | None, first: int = 5000, host: str = HOST) -> int:
    """Return a port of this machine's address `host` that nobody uses: `port`, or the next one from `first` on.

    Raises:
        ConfigError: `port` is in use, or this machine has no such address.
    """
    for candidate in [port] if port else range(first, first + 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
                return candidate
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise ConfigError(f"can't listen at {host}:{candidate}: {error.strerror or error}") from error
    raise ConfigError(f"port {port or first} on {host} is in use: choose another with --port")
