"""The picture in a request: read as it arrives, onto the disk where it is large, and no further than the limit."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from tempfile import SpooledTemporaryFile
from typing import IO

from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope

from sisr.serving.limits import Limits, Refusal, too_many_bytes

FIELD = "image"  # of a form; any other name will do
IN_MEMORY = 1 << 18  # bytes of a body; a longer one goes to the disk


@asynccontextmanager
async def received(scope: Scope, receive: Receive, limits: Limits) -> AsyncIterator[IO[bytes]]:
    """Give a file with the whole body of a request, at its beginning.

    Raises:
        Refusal: It is too large or too slow.
        ClientDisconnect: The client has gone.
    """
    declared = Headers(scope=scope).get("content-length", "")
    if declared.isdecimal() and int(declared) > limits.max_bytes:
        raise too_many_bytes(limits, f"{int(declared):,} are announced")
    with SpooledTemporaryFile(IN_MEMORY) as file:
        try:
            async with asyncio.timeout(limits.body_s):
                await _write(receive, file, limits)
        except TimeoutError:
            detail = f"the body did not arrive within {limits.body_s:g} s"
            raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "too slow", detail, limit={"body_s": limits.body_s}) from None
        file.seek(0)
        yield file


@asynccontextmanager
async def picture(request: Request, limits: Limits) -> AsyncIterator[IO[bytes]]:
    """Give the file that a request holds, as its body or as the one file of a form.

    Raises:
        Refusal: It is too large, too slow, or there is not one file.
    """
    async with received(request.scope, request.receive, limits) as body:
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            yield _not_empty(body)
            return
        try:
            async with Request(request.scope, replay(body, request.receive)).form(max_files=1, max_fields=16) as form:
                files = [value.file for value in form.values() if isinstance(value, UploadFile)]
                yield _not_empty(files[0] if files else None)
        except HTTPException as error:  # what starlette makes of a form that it can't read
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "damaged form", error.detail) from None


def replay(body: IO[bytes], receive: Receive) -> Receive:
    """Return ASGI's `receive` for a body that has been received already; afterwards `receive` goes on."""
    ended = False

    async def again() -> dict[str, object]:
        nonlocal ended
        if ended:
            return dict(await receive())
        chunk = body.read(IN_MEMORY)
        ended = len(chunk) < IN_MEMORY
        return {"type": "http.request", "body": chunk, "more_body": not ended}

    return again


async def _write(receive: Receive, file: IO[bytes], limits: Limits) -> None:
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        if size > limits.max_bytes:
            raise too_many_bytes(limits, f"{size:,} have come so far")
        file.write(chunk)


def _not_empty(file: IO[bytes] | None) -> IO[bytes]:
    if file is None or not file.read(1):
        detail = f"send an image file as the body, or as the field '{FIELD}' of a form"
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "empty file", detail)
    file.seek(0)
    return file
