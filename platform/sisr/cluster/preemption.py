"""Announces to Ray that this node is going to be taken away, so that runs save in time and go on elsewhere.

Ray passes this on to its runs, but asks no cloud for it. This program, one on every node that may be taken, does:

    python -m sisr.cluster.preemption watch        # ask EC2 every few seconds, until it says so or Ray ends here
    python -m sisr.cluster.preemption leave 100    # gone in 100 s: a hook before a pod is stopped; wait for Ray's end
"""

import argparse
import json
import time
import urllib.request
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.error import HTTPError, URLError

METADATA = "http://169.254.169.254"  # of EC2, version 2
LOOK_EVERY_S = 5.0
APPEAR_S = 120.0  # how long the node may take to join
PREEMPTION = 2  # autoscaler.proto: DRAIN_NODE_REASON_PREEMPTION


class Node:
    """This host's Ray node, as the head knows it."""

    def __init__(self, address: str | None, node: str | None) -> None:
        """Find it by its identifier; None: the living node with this host's address.

        The head has an address; None: the one that the Ray on this host has joined.

        Raises:
            TimeoutError: No node of this host has joined.
        """
        import ray
        from ray._private import services

        self._gcs = ray._raylet.GcsClient(address=services.canonicalize_bootstrap_address_or_die(address))
        here, deadline = services.get_node_ip_address(), time.monotonic() + APPEAR_S
        while True:
            found = [one for one, info in self._alive().items() if node in (one, None) and (node or info == here)]
            if found:
                self._id = found[0]
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"no Ray node of {here} has joined")
            time.sleep(1.0)

    def is_up(self) -> bool:
        """Return whether it has not left."""
        return self._id in self._alive()

    def leaves_at(self, second: float) -> None:
        """Announce that it will be gone at a second since 1970: Ray places nothing new here, and runs save."""
        cause, deadline_ms = "it is going to be taken away", int(second * 1000)
        accepted, reason = self._gcs.drain_node(self._id, PREEMPTION, cause, deadline_ms)
        if not accepted:
            raise RuntimeError(f"Ray does not let node {self._id} go: {reason}")

    def _alive(self) -> dict[str, str]:
        """Return the address of each living node, by identifier."""
        nodes = self._gcs.get_all_node_info(timeout=30).items()
        return {identifier.hex(): info.node_manager_address for identifier, info in nodes if info.state == 0}


def ec2_preemption(metadata: str) -> float | None:
    """Return the second since 1970 at which EC2 will take this instance away, or None: not soon."""
    lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    token = _ask(urllib.request.Request(f"{metadata}/latest/api/token", method="PUT", headers=lifetime))
    if token is None:
        return None
    asked = f"{metadata}/latest/meta-data/spot/instance-action"
    answer = _ask(urllib.request.Request(asked, headers={"X-aws-ec2-metadata-token": token}))
    return None if answer is None else datetime.fromisoformat(json.loads(answer)["time"]).timestamp()


def _ask(request: urllib.request.Request) -> str | None:
    try:
        with urllib.request.urlopen(request, timeout=3) as answer:
            return str(answer.read().decode())
    except HTTPError as error:
        if error.code == 404:  # it is not going to be taken away
            return None
        raise
    except (URLError, TimeoutError):  # asked again soon
        return None


def watch(node: Node, preemption: Callable[[], float | None]) -> None:
    """Wait until the node is to be taken away, and announce it."""
    while node.is_up():
        if (second := preemption()) is not None:
            node.leaves_at(second)
            print(f"announced that this node will be gone in {second - time.time():.0f} s", flush=True)
            return
        time.sleep(LOOK_EVERY_S)


def leave(node: Node, seconds: float) -> None:
    """Announce that the node will be gone, and wait until it has left or the time is over."""
    end = time.time() + seconds
    node.leaves_at(end)
    while node.is_up() and time.time() < end:
        time.sleep(1.0)


def command_line() -> argparse.ArgumentParser:
    """Return what understands the command line."""
    parser = argparse.ArgumentParser(prog="python -m sisr.cluster.preemption", description=__doc__)
    parser.add_argument("--address", help="of the head; default: of the Ray on this host")
    parser.add_argument("--node", help="identifier of the node; default: this host's")
    verbs = parser.add_subparsers(dest="verb", required=True)
    watching = verbs.add_parser("watch", help="announce what EC2 says, when it does")
    watching.add_argument("--metadata", default=METADATA, help="where EC2 answers")
    leaving = verbs.add_parser("leave", help="the node will be gone soon")
    leaving.add_argument("seconds", type=float, help="from now")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Do what the command line says."""
    given: Any = command_line().parse_args(arguments)
    node = Node(given.address, given.node)
    if given.verb == "watch":
        watch(node, lambda: ec2_preemption(given.metadata))
    else:
        leave(node, given.seconds)


if __name__ == "__main__":
    main()
