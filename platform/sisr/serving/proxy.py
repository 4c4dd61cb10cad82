"""What runs in Ray Serve's proxy, in front of its application: bodies reach the replicas whole, and a few at a time.

Serve's proxy takes bodies from its clients as fast as they send and keeps them in memory until a replica has come for
them. Here a body goes to the disk first, and a slow sender holds up nobody else. Ray Serve finds this module by the
environment variable `CALLBACK`, whose value is `MIDDLEWARES`.
"""

import asyncio
import json
import os
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict
from typing import IO, Any

from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from sisr.serving.hosts import OnlyFor
from sisr.serving.limits import Limits, Refusal, busy
from sisr.serving.request import IN_MEMORY, received, replay

CALLBACK = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
MIDDLEWARES = "sisr.serving.proxy.middlewares"
SETTINGS = "SISR_SERVE_PROXY"  # environment variable: limits and names, as JSON
LINGER_S = 10.0  # that a refused body is read on; nobody keeps it


def environment(limits: Limits, names: list[str]) -> dict[str, str]:
    """Return the environment variables of a process in which Ray Serve's proxy is to use this module."""
    return {CALLBACK: MIDDLEWARES, SETTINGS: json.dumps({"limits": asdict(limits), "names": names})}


def middlewares() -> list[Middleware]:
    """Return what Ray Serve's proxy puts in front of its application."""
    settings = json.loads(os.environ[SETTINGS])
    limits = Limits(**settings["limits"])
    limit_header_time(limits.header_s)
    return [Middleware(Intake, limits=limits), Middleware(OnlyFor, names=settings["names"])]


class Intake:
    """An application that gets each request with its whole body, at most `limits.passing` large ones at a time."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits = app, limits
        self._passing, self._receiving, self._waiting = asyncio.Semaphore(limits.passing), 0, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse a body that is too large or too slow, or one too many."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            return await self._app(scope, receive, send)
        async with AsyncExitStack() as stack:
            file = None
            try:
                file = await self._received(scope, receive, stack)
                passage = await stack.enter_async_context(AsyncExitStack())
                if file.seek(0, os.SEEK_END) > IN_MEMORY:
                    await self._pass(passage)
            except Refusal as error:
                return await self._refuse(error, receive if file is None else None, send)
            except ClientDisconnect:
                return

            async def send_on(message: Message) -> None:
                await passage.aclose()  # the replica has the body by now, and a client may be slow to take the answer
                await send(message)

            file.seek(0)
            await self._app(scope, replay(file, receive), send_on)

    async def _refuse(self, error: Refusal, unread: Receive | None, send: Send) -> None:
        """Answer, and read for a while what a client still sends: one that is cut off meanwhile sees no answer."""
        answer = JSONResponse(error.body, error.status, error.headers | {"Connection": "close"})
        await send({"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers})
        await send({"type": "http.response.body", "body": answer.body, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(min(LINGER_S, self._limits.body_s)):
                while unread and (await unread()).get("more_body", False):
                    pass
        await send({"type": "http.response.body", "body": b""})

    async def _received(self, scope: Scope, receive: Receive, stack: AsyncExitStack) -> IO[bytes]:
        if self._receiving >= self._limits.receiving:
            raise busy(f"{self._receiving} requests are arriving, which is the most", receiving=self._limits.receiving)
        self._receiving += 1
        try:
            return await stack.enter_async_context(received(scope, receive, self._limits))
        finally:
            self._receiving -= 1

    async def _pass(self, passage: AsyncExitStack) -> None:
        """Wait until a large body may pass, until its passage is closed."""
        if self._waiting >= self._limits.queue and self._passing.locked():
            raise busy(f"{self._waiting} requests wait already, which is the most", queue=self._limits.queue)
        self._waiting += 1
        try:
            async with asyncio.timeout(self._limits.time_s):
                await passage.enter_async_context(self._passing)
        except TimeoutError:
            limit = self._limits.time_s
            raise busy(f"its turn did not come within {limit:g} s", time_s=limit) from None
        finally:
            self._waiting -= 1


def limit_header_time(seconds: float) -> None:
    """Let every server of this process close a connection on which no whole header came in time.

    Uvicorn has no such limit, and Ray Serve makes its server itself.
    """
    protocol: Any = AutoHTTPProtocol
    connection_made = protocol.connection_made

    def limited(self: Any, transport: asyncio.Transport) -> None:
        connection_made(self, transport)
        self.loop.call_later(seconds, lambda: None if self.cycle else transport.close())

    protocol.connection_made = limited
