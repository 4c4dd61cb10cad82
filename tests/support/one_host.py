"""A program of its own for tests: becomes one host of a simulated network, and serves SSH until it is killed.

It is started by `hosts.py` as the first process of namespaces of its own (PID, mount, network, UTS, IPC), as root. All
that it mounts and starts is seen by nobody else and ends with it. On standard input it gets one JSON object, and a
line when its network card is there; it prints a line when SSH is served.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
SSHD = """\
HostKey /run/ssh_host_key
PidFile none
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
"""


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)


def lay_root(scratch: str, mounts: Sequence[tuple[str, str, bool]]) -> None:
    """Make a root of this process's own: the machine's, over which changes lie in memory, without its /tmp and /run.

    Args:
        scratch: An empty folder to mount it at.
        mounts: (source, place, is read-only) of the folders that are the same as the machine's.
    """
    run("mount", "-t", "tmpfs", "none", scratch)
    upper, work, root = (Path(scratch, name) for name in ("upper", "work", "root"))
    for folder in (upper, work, root):
        folder.mkdir()
    run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir=/,upperdir={upper},workdir={work}", root)
    run("mount", "-t", "proc", "proc", root / "proc")
    run("mount", "-t", "sysfs", "sysfs", root / "sys")
    lay_devices(root / "dev")
    for name in ("tmp", "run"):
        run("mount", "-t", "tmpfs", "-o", "mode=1777" if name == "tmp" else "mode=755", "none", root / name)
    for source, place, is_read_only in mounts:
        target = root / place.lstrip("/")
        target.mkdir(parents=True, exist_ok=True)
        run("mount", "--bind", source, target)
        if is_read_only:
            run("mount", "-o", "remount,bind,ro", target)
        for parent in target.parents:
            mode = parent.stat().st_mode
            if parent.is_relative_to(root) and not mode & 0o001:
                parent.chmod(mode | 0o001)  # on this host alone: its ordinary user must get there
    (root / "old_root").mkdir(exist_ok=True)
    run("pivot_root", root, root / "old_root")
    os.chdir("/")
    run("umount", "--lazy", "/old_root")


def lay_devices(dev: Path) -> None:
    """Fill /dev with what programs expect, terminals of its own included."""
    run("mount", "-t", "tmpfs", "-o", "mode=755", "none", dev)
    for name in DEVICES:
        (dev / name).touch()
        run("mount", "--bind", f"/dev/{name}", dev / name)
    for name, options in (("pts", "newinstance,ptmxmode=0666,mode=620,gid=5"), ("shm", "mode=1777")):
        (dev / name).mkdir()
        run("mount", "-t", "devpts" if name == "pts" else "tmpfs", "-o", options, "none", dev / name)
    for name, target in {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1"}.items():
        (dev / name).symlink_to(target)


def name_everybody(name: str, addresses: dict[str, str]) -> None:
    """Give this host its name, and the names of all; there is no other name service."""
    socket.sethostname(name)
    Path("/etc/hostname").write_text(f"{name}\n")
    lines = [f"{address} {host}\n" for host, address in {"localhost": "127.0.0.1", **addresses}.items()]
    Path("/etc/hosts").write_text("".join(lines))
    Path("/etc/resolv.conf").unlink(missing_ok=True)
    Path("/etc/resolv.conf").touch()


def add_user(user: str, uid: int, public_key: str, python: str) -> None:
    """Add an ordinary user whom a key lets in, and the Python that he finds; pip is told that there is no network."""
    home = Path("/home", user)
    for path, line in {
        "passwd": f"{user}:x:{uid}:{uid}::{home}:/bin/bash",
        "group": f"{user}:x:{uid}:",
        "shadow": f"{user}:*:19000:0:99999:7:::",
    }.items():
        with open(Path("/etc", path), "a") as file:
            file.write(f"{line}\n")
    shutil.copytree("/etc/skel", home, dirs_exist_ok=True)
    (home / ".ssh").mkdir(mode=0o700)
    (home / ".ssh" / "authorized_keys").write_text(public_key)
    run("chown", "--recursive", f"{uid}:{uid}", home)
    Path("/etc/pip.conf").write_text("[global]\nno-index = true\n")
    command = Path("/usr/local/bin/python3")
    command.unlink(missing_ok=True)
    command.write_text(f'#!/bin/sh\nexec {python} "$@"\n')  # a link would lead environments to other libraries
    command.chmod(0o755)


def join_network(address: str, gateway: str) -> None:
    run("ip", "link", "set", "lo", "up")
    run("ip", "address", "add", f"{address}/24", "dev", "eth0")
    run("ip", "link", "set", "eth0", "up")
    run("ip", "route", "add", "default", "via", gateway)


def serve_ssh() -> None:
    Path("/run/sshd").mkdir()
    Path("/run/sshd_config").write_text(SSHD)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/run/ssh_host_key")
    sshd = str(shutil.which("sshd", path="/usr/sbin:/usr/local/sbin"))
    subprocess.Popen([sshd, "-D", "-f", "/run/sshd_config"], stdin=subprocess.DEVNULL, stdout=sys.stderr)
    while True:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", 22)):
            return
        time.sleep(0.05)


def main(spec: dict[str, Any]) -> None:
    lay_root(spec["scratch"], spec["mounts"])
    name_everybody(spec["name"], spec["addresses"])
    add_user(spec["user"], spec["uid"], spec["public_key"], spec["python"])
    sys.stdin.readline()
    join_network(spec["addresses"][spec["name"]], spec["gateway"])
    serve_ssh()
    print("ready", flush=True)
    while True:
        os.wait()  # orphans come to the first process; unread, they would look alive to `ray stop`


if __name__ == "__main__":
    main(json.loads(sys.stdin.readline()))
