"""Several hosts on this machine for tests: network namespaces joined by a switch, each with its own SSH server.

Each host is a process in namespaces of its own (`one_host.py`), and everything of a host ends with that process: its
processes, mounts, files and network. It ends with the test's process, too, however that ends.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

PROGRAM = Path(__file__).with_name("one_host.py")
USER, UID = "lab", 4242
HOME = Path("/home", USER)
SUBNET = "10.77.0"
# Each with the Debian package that brings it.
TOOLS = {
    "ip": "iproute2",
    "nft": "nftables",
    "openssl": "openssl",
    "pgrep": "procps",
    "rsync": "rsync",
    "ssh": "openssh-client",
    "sshd": "openssh-server",
    "sysctl": "procps",
    "tmux": "tmux",
    "unshare": "util-linux",
}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Whoever starts such a process can't leave it behind: it is killed when its parent ends.
TIED = ("setpriv", "--pdeathsig", "KILL", "unshare", "--kill-child", "--fork", "--net", "--pid")


def missing() -> str | None:
    """Return why hosts can't be made here; None where they can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces need Linux and root"
    absent = sorted({package for tool, package in TOOLS.items() if not shutil.which(tool, path=PATH)})
    if absent:
        return f"not installed: {', '.join(absent)}"
    tried = subprocess.run([*TIED, "--mount", "--uts", "--ipc", "true"], capture_output=True, text=True)
    return f"namespaces are not allowed here: {tried.stderr.strip()}" if tried.returncode else None


@dataclass(frozen=True)
class Host:
    """One simulated machine."""

    name: str
    address: str
    pid: int  # of its first process, as this machine counts

    def command(self, *words: str | Path, user: str = USER, env: Mapping[str, str] | None = None) -> list[str]:
        """Return what runs a command on this host, in its user's home folder or as root."""
        ids = ("--setuid", str(UID), "--setgid", str(UID)) if user == USER else ()
        home = str(HOME if user == USER else Path("/root"))
        own = {"HOME": home, "USER": user, "LOGNAME": user, "PATH": PATH, "LANG": "C.UTF-8", **(env or {})}
        enter = ["nsenter", "--target", str(self.pid), "--mount", "--uts", "--ipc", "--net", "--pid", *ids]
        inner = ["env", "-i", *(f"{name}={value}" for name, value in own.items()), *map(str, words)]
        return [*enter, "sh", "-c", f"cd {home} && exec {shlex.join(inner)}"]

    def run(self, *words: str | Path, user: str = USER, stdin: str = "", timeout_s: float = 300) -> str:
        """Run a command to its end and return what it printed, errors included.

        Raises:
            AssertionError: It failed.
        """
        return complete(self.command(*words, user=user), timeout_s, stdin)

    def path(self, place: str | Path) -> Path:
        """Return how a file of this host is reached from outside, by root."""
        return Path(f"/proc/{self.pid}/root", str(place).lstrip("/"))

    def processes(self) -> list[str]:
        """Return the command lines of all that runs on this host, its first process aside."""
        lines = []
        for path in self.path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):  # it has ended since
                lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip())
        return [line for line in lines if str(PROGRAM) not in line]


def complete(command: Sequence[str], timeout_s: float, stdin: str = "") -> str:
    """Run a command to its end and return what it printed, errors included.

    Raises:
        AssertionError: It failed.
    """
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(command, input=stdin, text=True, timeout=timeout_s, **both)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command[-1]}: {done.returncode}\n{done.stdout}"
    return str(done.stdout)


@dataclass(frozen=True)
class Network:
    """The hosts, and the switch that joins them."""

    hosts: dict[str, Host]
    switch: int  # PID of the process that holds the switch's network

    def cut(self, host: Host) -> None:
        """Pull the cable of one host."""
        self._set(host, "down")

    def plug_in(self, host: Host) -> None:
        """Put the cable back."""
        self._set(host, "up")

    def _set(self, host: Host, state: str) -> None:
        _in_network(self.switch, "ip", "link", "set", "dev", host.name, state)


@contextmanager
def network(
    names: Sequence[str], scratch: Path, *, read_only: Sequence[Path], shared: Mapping[Path, Path], strangers: set[str]
) -> Iterator[Network]:
    """Make hosts that reach each other, and end them with all that is theirs.

    Args:
        names: Of the hosts, at most eight letters each.
        scratch: An empty folder for keys and mount points.
        read_only: Folders that every host has under the same path, such as installed packages.
        shared: Shared storage: where it lies on this machine -> its path on the hosts.
        strangers: Names of the hosts without shared storage.
    """
    key = scratch / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key], check=True)
    spec: dict[str, Any] = {
        "user": USER,
        "uid": UID,
        "public_key": key.with_suffix(".pub").read_text(),
        "python": str(Path(getattr(sys, "_base_executable", sys.executable)).resolve()),
        "addresses": {name: f"{SUBNET}.{number}" for number, name in enumerate(names, 1)},
        "gateway": f"{SUBNET}.254",
    }
    fixed = [(str(path), str(path), True) for path in read_only]
    common = [(str(source), str(place), False) for source, place in shared.items()]
    with ExitStack() as stack:
        switch = stack.enter_context(_switch(spec["gateway"]))
        programs = {}
        for name in names:
            mounts = [*fixed, *([] if name in strangers else common)]
            (scratch / name).mkdir()
            of_host = {**spec, "name": name, "scratch": str(scratch / name), "mounts": mounts}
            programs[name] = stack.enter_context(_program(of_host))
        hosts = {name: _connect(program, name, spec["addresses"][name], switch) for name, program in programs.items()}
        for name, program in programs.items():
            assert program.stdout is not None
            assert program.stdout.readline() == "ready\n", f"host {name} did not start"
        yield Network(hosts, switch)


@contextmanager
def _switch(gateway: str) -> Iterator[int]:
    """Hold a network of its own with a bridge in it; yield the holder's PID.

    The bridge is everybody's gateway, and answers that nothing is reachable behind it.
    """
    with _ending(subprocess.Popen([*TIED, "sh", "-c", "echo up; exec sleep infinity"], stdout=subprocess.PIPE)) as own:
        assert own.stdout is not None
        own.stdout.readline()
        pid = _first(own)
        _in_network(pid, "ip", "link", "add", "switch", "type", "bridge")
        _in_network(pid, "ip", "address", "add", f"{gateway}/24", "dev", "switch")
        _in_network(pid, "ip", "link", "set", "switch", "up")
        _in_network(pid, "ip", "route", "add", "unreachable", "default")
        _in_network(pid, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        yield pid


@contextmanager
def _program(spec: dict[str, Any]) -> "Iterator[subprocess.Popen[str]]":
    """Start one host, without network yet."""
    command = [*TIED, "--mount", "--propagation", "private", "--uts", "--ipc", sys.executable, str(PROGRAM)]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_TMPDIR"} | {"PATH": PATH}
    pipe = subprocess.PIPE
    with _ending(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)) as program:
        assert program.stdin is not None
        program.stdin.write(json.dumps(spec) + "\n")
        program.stdin.flush()
        yield program


def _connect(program: "subprocess.Popen[str]", name: str, address: str, switch: int) -> Host:
    """Put a cable between a host and the switch."""
    assert program.stdin is not None
    pid = _first(program)
    _in_network(switch, "ip", "link", "add", "name", name, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    _in_network(switch, "ip", "link", "set", "dev", name, "master", "switch", "up")
    program.stdin.write("connected\n")
    program.stdin.flush()
    return Host(name, address, pid)


def _first(program: "subprocess.Popen[Any]") -> int:
    """Return the PID of the first process of a program's PID namespace."""
    process = psutil.Process(program.pid)
    while not (children := process.children()):
        assert program.poll() is None, "it ended at once"
    return int(children[0].pid)


def _in_network(pid: int, *command: str) -> None:
    subprocess.run(["nsenter", "--target", str(pid), "--net", *command], check=True)


@contextmanager
def _ending(program: "subprocess.Popen[Any]") -> "Iterator[subprocess.Popen[Any]]":
    """End a program, and with it the first process of its namespaces and all others in them, whatever happens."""
    try:
        yield program
    finally:
        program.kill()
        program.communicate()
