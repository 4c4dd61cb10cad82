"""An S3 server on this machine, and a wire to it on which things go wrong: moto behind a proxy, both over sockets."""

import contextlib
import http.client
import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sisr.storage.address import Address, parse
from sisr.storage.bucket import Bucket

BUCKET = "lab"
# What a server may answer instead of doing what it is asked.
ERRORS = {
    "broken": (500, "InternalError"),
    "busy": (503, "SlowDown"),
    "expired": (400, "ExpiredToken"),
    "full": (507, "XMinioStorageFull"),
    "forbidden": (403, "AccessDenied"),
}


class Wire:
    """The way from a client to the server. `fault` says what goes wrong on it now; None: nothing.

    Faults are those of `ERRORS`, and: `cut` (nobody answers), `torn` (half an answer), `slow` (later), and `lost` (the
    server does what it is asked, and its answer does not arrive).
    """

    def __init__(self, server: tuple[str, int], slow_s: float = 0.3) -> None:
        self.fault: str | None = None
        self.only = ""  # the fault concerns requests whose line holds this text
        self.bytes_up = 0
        self.broken = 0  # how many requests have met a fault
        wire = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None: ...

            def answer(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = wire.fault if wire.only in f"{self.command} {self.path}" else None
                wire.broken += fault is not None
                if fault == "cut":
                    self.close_connection = True
                    return
                if fault in ERRORS:
                    status, code = ERRORS[fault]
                    self.reply(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode(), {})
                    return
                if fault == "slow":
                    time.sleep(slow_s)
                wire.bytes_up += len(content)
                there = http.client.HTTPConnection(*server, timeout=30)
                there.request(self.command, self.path, content, dict(self.headers))
                response = there.getresponse()
                body = response.read()
                there.close()
                if fault == "lost":
                    self.close_connection = True
                    return
                kept = {k: v for k, v in response.getheaders() if k.lower() not in ("connection", "transfer-encoding")}
                self.reply(response.status, body, kept, cut_at=len(body) // 2 if fault == "torn" else None)

            def reply(self, status: int, body: bytes, headers: dict[str, str], cut_at: int | None = None) -> None:
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(body))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(b"" if self.command == "HEAD" else body[:cut_at])
                self.close_connection = cut_at is not None

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def address(self, path: str = "runs") -> Address:
        """Return an address at the server, by way of this wire."""
        host, port = str(self._server.server_address[0]), self._server.server_address[1]
        return parse(f"s3://{BUCKET}/{path}?endpoint_override={host}:{port}&scheme=http&region=us-east-1")

    def close(self) -> None:
        """Cut it for good."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[tuple[str, int]]:
    """The host and port of a simulated S3."""
    server = pytest.importorskip("moto.server", reason="no simulated object storage: pip install 'moto[s3,server]'")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    simulated = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    simulated.start()
    yield simulated.get_host_and_port()
    simulated.stop()


@pytest.fixture
def wires(s3_server: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Wire]]:
    """Two ways to an empty bucket, so that one can be cut."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr("sisr.storage.bucket.ATTEMPTS", 1)
    both = [Wire(s3_server), Wire(s3_server)]
    bucket = Bucket(both[0].address(""))
    with contextlib.suppress(Exception):  # it is there from the test before
        bucket.call("create a bucket", "create_bucket")
    if left := [*bucket.names()]:
        bucket.delete(left)
    yield both
    for wire in both:
        wire.close()


@pytest.fixture
def wire(wires: list[Wire]) -> Wire:
    """A way to an empty bucket."""
    return wires[0]
