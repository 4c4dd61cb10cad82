"""The simulated hosts that other tests use: apart from each other, joined by a network, and gone afterwards."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import hosts
from hosts import HOME, Host, Network

pytestmark = pytest.mark.cluster


@pytest.fixture(autouse=True)
def possible() -> None:
    if reason := hosts.missing():
        pytest.skip(reason)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Network]:
    """Two hosts; the first has shared storage, and the key that opens the second."""
    (tmp_path / "shared").mkdir()
    shutil.chown(tmp_path / "shared", hosts.UID, hosts.UID)
    (tmp_path / "keys").mkdir()
    python = [Path(sys.base_prefix)]
    shared = {tmp_path / "shared": Path("/shared")}
    with hosts.network(["a", "b"], tmp_path / "keys", read_only=python, shared=shared, strangers={"b"}) as made:
        made.hosts["a"].run("sh", "-c", "umask 077; cat > key", stdin=(tmp_path / "keys" / "key").read_text())
        yield made


def over_ssh(network: Network, command: str) -> str:
    options = ("-q", "-i", "key", "-o", "StrictHostKeyChecking=no", "-o", "ConnectTimeout=3")
    return network.hosts["a"].run("ssh", *options, "b", command).strip()


def test_a_host_reaches_another_by_its_name_over_ssh(pair: Network) -> None:
    assert over_ssh(pair, "hostname; id -un; pwd").splitlines() == ["b", hosts.USER, str(HOME)]


def test_hosts_share_nothing_but_what_they_are_told_to(pair: Network, tmp_path: Path) -> None:
    a, b = pair.hosts["a"], pair.hosts["b"]
    a.run("sh", "-c", "touch /tmp/mine ~/mine /shared/ours /dev/shm/mine")
    assert b.run("sh", "-c", "ls /tmp ~ /dev/shm").split() == ["/dev/shm:", f"{HOME}:", "/tmp:"]
    assert (tmp_path / "shared" / "ours").is_file()
    assert not b.path("/shared").exists()
    assert not Path(HOME).exists(), "nothing of it is on this machine"
    with pytest.raises(AssertionError, match="Read-only file system"):
        a.run("touch", Path(sys.base_prefix, "mine"), user="root")


def test_a_cut_host_is_reached_again_once_it_is_plugged_in(pair: Network) -> None:
    pair.cut(pair.hosts["b"])
    with pytest.raises(AssertionError):
        over_ssh(pair, "true")
    pair.plug_in(pair.hosts["b"])
    pair.hosts["a"].run("bash", "-c", "until true < /dev/tcp/b/22; do sleep 0.1; done", timeout_s=60)
    assert over_ssh(pair, "hostname") == "b"


def test_orphans_are_reaped(pair: Network) -> None:
    host = pair.hosts["a"]
    host.run("sh", "-c", "sh -c 'sleep 0.1 & exit' & wait")
    ended_by = time.monotonic() + 120
    while zombies(host) and time.monotonic() < ended_by:
        time.sleep(0.1)
    assert zombies(host) == []


def zombies(host: Host) -> list[int]:
    found = psutil.Process(host.pid).children(recursive=True)
    return [one.pid for one in found if one.is_running() and one.status() == psutil.STATUS_ZOMBIE]


KILLED = """
import json, sys, time
from pathlib import Path
import hosts
keys = Path(sys.argv[1])
with hosts.network(["a"], keys, read_only=[Path(sys.base_prefix)], shared={}, strangers=set()) as made:
    made.hosts["a"].run("sh", "-c", "sleep 1000 > /dev/null 2>&1 &")
    print(json.dumps([one.pid for one in made.hosts.values()] + [made.switch]), flush=True)
    time.sleep(1000)
"""


def test_whoever_is_killed_leaves_no_host_behind(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(hosts.__file__).parent)}
    mounts = Path("/proc/self/mounts").read_text()
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        first = [psutil.Process(pid) for pid in json.loads(process.stdout.readline())]
        everything = [one for host in first for one in [host, *host.children(recursive=True)]]
        assert len(everything) >= 4, "two first processes, an SSH server and what was left running"
        process.send_signal(signal.SIGKILL)
    assert psutil.wait_procs(everything, timeout=300)[1] == []
    assert Path("/proc/self/mounts").read_text() == mounts
