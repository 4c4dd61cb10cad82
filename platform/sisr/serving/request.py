"""What a request asks for: the picture that it holds, and the format of the answer.

A picture is read as it arrives, onto the disk where it is large, and no further than the limit.
"""

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
MEDIA_TYPES = {".png": "image/png", ".webp": "image/webp", ".jpg": "image/jpeg"}  # by suffix, the best guess first
NAMES = {"png": ".png", "webp": ".webp", "jpg": ".jpg", "jpeg": ".jpg"}  # what ?format= may say


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


def choose(format_: str | None, accept: str | None) -> str:
    """Return the suffix of the format to answer in, for one of `NAMES` and the request's header Accept.

    Raises:
        Refusal: Nothing that the client accepts can be written.
    """
    if format_ is not None:
        return NAMES[format_]
    weights = {suffix: _weight(media, accept or "*/*") for suffix, media in MEDIA_TYPES.items()}
    best = max(weights, key=lambda suffix: weights[suffix])  # of equal ones the first
    if weights[best] <= 0:
        detail = f"Accept: {accept} leaves none of {', '.join(MEDIA_TYPES.values())}"
        raise Refusal(HTTPStatus.NOT_ACCEPTABLE, "not acceptable", detail)
    return best


def _weight(media: str, accept: str) -> float:
    """Return how welcome a media type is, 0 .. 1: by the most specific range that covers it (RFC 9110, 12.5.1)."""
    found = (-1, 0.0)  # specificity, weight
    for part in accept.split(","):
        name, *parameters = (word.strip().lower() for word in part.split(";"))
        specificity = {media: 2, f"{media.partition('/')[0]}/*": 1, "*/*": 0}.get(name, -1)
        quality = next((word[2:] for word in parameters if word.startswith("q=")), "1")
        found = max(found, (specificity, _number(quality)), key=lambda pair: pair[0])
    return found[1] if found[0] >= 0 else 0.0


def _number(quality: str) -> float:
    try:
        return min(max(float(quality), 0.0), 1.0)
    except ValueError:
        return 0.0
