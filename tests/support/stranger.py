"""A program of its own for tests: what a machine gets from the ports of others, with Ray's token or without.

`stranger.py scan ADDRESS...` prints the open TCP ports by address. `stranger.py ask ADDRESS PORT... [--token=TOKEN]`
prints by port what Ray's own calls and some web addresses answer. Both print a JSON object.
"""

import errno
import http.client
import json
import select
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence

PORTS = range(1, 65536)
AT_A_TIME = 500
PATIENCE_S = 5.0
PAGES = ("/", "/metrics", "/api/version", "/api/jobs/", "/api/job_agent/jobs/", "/api/healthz", "/logs")
CALLS = (
    "/ray.rpc.JobInfoGcsService/GetAllJobInfo",
    "/ray.rpc.InternalKVGcsService/InternalKVKeys",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.NodeManagerService/ShutdownRaylet",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.CoreWorkerService/PushTask",
    "/ray.rpc.RayletDriver/ClusterInfo",
    "/ray.rpc.ReporterService/GetTraceback",
    "/ray.rpc.LogService/ListLogs",
    "/grpc.health.v1.Health/Check",
)


def scan(address: str) -> list[int]:
    """Return the TCP ports of an address that let one connect."""
    found = []
    for first in range(PORTS.start, PORTS.stop, AT_A_TIME):
        waiting = {}
        poll = select.poll()
        for port in range(first, min(first + AT_A_TIME, PORTS.stop)):
            one = socket.socket()
            one.setblocking(False)
            if one.connect_ex((address, port)) == errno.EINPROGRESS:
                waiting[one.fileno()] = (port, one)
                poll.register(one, select.POLLOUT)
        deadline = time.monotonic() + PATIENCE_S
        while waiting and time.monotonic() < deadline:
            for number, _ in poll.poll(100):
                port, one = waiting.pop(number)
                poll.unregister(number)
                if one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    found.append(port)
                one.close()
        for _, one in waiting.values():
            one.close()
    return sorted(found)


def ask(address: str, port: int, token: str | None) -> dict[str, str]:
    """Return what a port answers: HTTP's status by page, gRPC's by call; calls only where no HTTP is spoken."""
    answers: dict[str, str] = {}
    head = {"Authorization": f"Bearer {token}"} if token else {}
    for page in PAGES:
        request = urllib.request.Request(f"http://{address}:{port}{page}", headers=head)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                answers[page] = str(answer.status)
        except urllib.error.HTTPError as error:
            answers[page] = str(error.code)
        except (OSError, http.client.HTTPException):
            return call(address, port, token)
    return answers


def call(address: str, port: int, token: str | None) -> dict[str, str]:
    import grpc

    answers = {}
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    with grpc.insecure_channel(f"{address}:{port}") as channel:
        for name in CALLS:
            try:
                channel.unary_unary(name)(b"", timeout=PATIENCE_S, metadata=metadata)
                answers[name] = "OK"
            except grpc.RpcError as error:
                answers[name] = error.code().name
    return answers


def main(words: Sequence[str]) -> None:
    task, address, *others = words
    if task == "scan":
        print(json.dumps({one: scan(one) for one in (address, *others)}))
        return
    token = others.pop().partition("=")[2] if others[-1].startswith("--token=") else None
    print(json.dumps({port: ask(address, int(port), token) for port in others}))


if __name__ == "__main__":
    main(sys.argv[1:])
