"""What stands in Ray Serve's proxy, in front of an application that only counts."""

import asyncio
import http.client
import socket
import threading
from contextlib import contextmanager

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from asgi import acall, call
from sisr.serving import proxy
from sisr.serving.limits import Limits
from sisr.serving.request import IN_MEMORY

LARGE = bytes(IN_MEMORY + 1)


async def length(scope, receive, send):
    """Answer how long the body is."""
    body = await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


@contextmanager
def running(app, **options):
    """Run a real server, and give its address."""
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="critical", **options))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        yield listening.getsockname()
        server.should_exit = True
        thread.join(30)


@pytest.mark.parametrize("size", [0, 1, IN_MEMORY, IN_MEMORY + 1, 3 * IN_MEMORY])
def test_a_body_passes_unchanged(size):
    assert call(proxy.Intake(length, Limits()), "POST", "/", bytes(size)).body == str(size).encode()


def test_a_body_that_is_too_large_or_too_slow_does_not_reach_the_application():
    async def never(scope, receive, send):
        raise AssertionError

    async def stalled():
        yield b"x"
        await asyncio.Event().wait()

    app = proxy.Intake(never, Limits(max_bytes=100, body_s=0.1))
    assert call(app, "POST", "/", [bytes(60)] * 3).status == 413
    assert call(app, "POST", "/", b"", content_length="1000").status == 413
    assert call(app, "POST", "/", stalled()).status == 408


def test_a_few_large_bodies_pass_at_a_time_and_small_ones_all():
    async def story():
        present, most, free = 0, 0, asyncio.Event()

        async def busy(scope, receive, send):
            nonlocal present, most
            present += 1
            most = max(most, present)
            await free.wait()
            await length(scope, receive, send)
            present -= 1

        app = proxy.Intake(busy, Limits(passing=2))
        large = [asyncio.ensure_future(acall(app, "POST", "/", LARGE)) for _ in range(6)]
        while present < 2:
            await asyncio.sleep(0)
        small = asyncio.ensure_future(acall(app, "POST", "/", b"x"))
        while present < 3:
            await asyncio.sleep(0)
        free.set()
        return await asyncio.gather(small, *large), most

    answers, most = asyncio.run(story())
    assert [answer.body for answer in answers] == [b"1"] + [str(len(LARGE)).encode()] * 6
    assert most == 3


def test_the_proxy_gets_limits_and_names_by_its_environment(monkeypatch):
    monkeypatch.setattr(proxy, "limit_header_time", lambda seconds: None)
    for name, value in proxy.environment(Limits(max_bytes=7), ["photos.example"]).items():
        monkeypatch.setenv(name, value)
    intake, only_for = proxy.middlewares()
    assert intake.kwargs == {"limits": Limits(max_bytes=7)}
    assert only_for.kwargs == {"names": ["photos.example"]}


def test_a_connection_without_a_header_is_closed(monkeypatch):
    protocol = type("Protocol", (proxy.AutoHTTPProtocol,), {})
    monkeypatch.setattr(proxy, "AutoHTTPProtocol", protocol)
    proxy.limit_header_time(0.2)
    with running(length, http=protocol) as place:
        with socket.create_connection(place, timeout=300) as idle, socket.create_connection(place, timeout=300) as half:
            half.sendall(b"POST / HTTP/1.1\r\nHost: ")
            assert (idle.recv(1), half.recv(1)) == (b"", b"")
        with socket.create_connection(place, timeout=300) as asking:
            asking.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc")
            assert asking.recv(15) == b"HTTP/1.1 200 OK"


def test_a_client_that_sends_all_before_it_reads_is_told_that_it_is_too_much():
    with running(proxy.Intake(length, Limits(max_bytes=100))) as (host, port):
        connection = http.client.HTTPConnection(host, port, timeout=300)
        connection.request("POST", "/", bytes(20_000_000))
        assert connection.getresponse().status == 413
        connection.close()


def test_large_bodies_that_wait_too_many_or_too_long_are_refused():
    async def story():
        free = asyncio.Event()

        async def busy(scope, receive, send):
            await free.wait()
            await length(scope, receive, send)

        app = proxy.Intake(busy, Limits(passing=1, queue=1, time_s=0.3))
        first = asyncio.ensure_future(acall(app, "POST", "/", LARGE))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(acall(app, "POST", "/", LARGE))
        await asyncio.sleep(0)
        third = await acall(app, "POST", "/", LARGE)
        second_answer = await second
        free.set()
        return await first, second_answer, third

    first, second, third = asyncio.run(story())
    assert (first.status, first.body) == (200, str(len(LARGE)).encode())
    assert (second.status, second.json()["limit"]) == (503, {"time_s": 0.3})
    assert (third.status, third.json()["limit"]) == (503, {"queue": 1})
    assert "retry-after" in third.headers
