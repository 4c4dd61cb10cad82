"""A courier that is forked from a process that has imported MLflow, where a test needs one and not how it starts."""

import io
import os
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from forks import forkserver
from sisr.tracking import courier


@pytest.fixture
def forked_courier(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the couriers of this test be forked: with pipes, a session and an end of their own, as started ones."""
    fork_couriers(monkeypatch)


def fork_couriers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(courier.Courier, "_spawn", lambda self: Forked(self._folder, self._uri))


class Forked:
    """What a `Courier` needs of its process, as `subprocess.Popen` has it."""

    def __init__(self, folder: Path, uri: str) -> None:
        context = forkserver()
        (theirs_in, self.stdin), (ours, theirs_out) = context.Pipe(duplex=False), context.Pipe(duplex=False)
        given = (str(folder), courier.environment(uri), theirs_in, theirs_out)
        self._process = context.Process(target=_run, args=given, daemon=True)
        self._process.start()
        for end in (theirs_in, theirs_out):
            end.close()
        self.stdout: io.TextIOBase = os.fdopen(os.dup(ours.fileno()))
        ours.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()


def _run(folder: str, environment: dict[str, str], stdin: Connection, stdout: Connection) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    with open(Path(folder) / courier.LOG, "ab") as log:
        for number, descriptor in enumerate((stdin.fileno(), stdout.fileno(), log.fileno())):
            os.dup2(descriptor, number)
    stdin.close()
    stdout.close()
    sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
    sys.argv = [courier.MODULE, folder, "--parent-pid", str(os.getppid())]
    courier.main()
