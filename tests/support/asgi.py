"""Requests to an ASGI application in this process: what a client library does, and what it would not do."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

Body = bytes | Iterable[bytes] | AsyncIterator[bytes]


@dataclass(frozen=True)
class Answer:
    """What came back, and how much of the body was taken for it."""

    status: int
    headers: dict[str, str]
    body: bytes
    taken: int  # bytes

    def json(self) -> Any:
        return json.loads(self.body)


def call(app: Any, method: str, target: str, body: Body = b"", **headers: str) -> Answer:
    """Send one request and return the answer; `content_type="text/plain"` becomes the header Content-Type."""
    return asyncio.run(acall(app, method, target, body, **headers))


async def acall(app: Any, method: str, target: str, body: Body = b"", **headers: str) -> Answer:
    """Do the same in a loop that runs already."""
    path, _, query = target.partition("?")
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    if isinstance(body, bytes) and "content_length" not in headers:
        sent.append((b"content-length", str(len(body)).encode()))
    if "host" not in headers:
        sent.append((b"host", b"127.0.0.1"))
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
    }
    scope |= {"path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": ""}
    scope |= {"headers": sent, "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1)}
    chunks, taken = _chunks(body), 0
    messages: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        nonlocal taken
        chunk = await anext(chunks, None)
        taken += len(chunk or b"")
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    await app(scope, receive, send)
    found = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
    content = b"".join(message.get("body", b"") for message in messages[1:])
    return Answer(messages[0]["status"], found, content, taken)


async def _chunks(body: Body) -> AsyncIterator[bytes]:
    if isinstance(body, bytes):
        yield body
    elif hasattr(body, "__aiter__"):
        async for chunk in body:
            yield chunk
    else:
        for chunk in body:
            yield chunk
