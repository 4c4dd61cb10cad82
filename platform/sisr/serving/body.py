"""The picture in a request: read as it arrives, and no further than the limit."""

import asyncio
from http import HTTPStatus

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from sisr.serving.limits import Limits, Refusal, too_many_bytes

FIELD = "image"  # of a form; any other name will do


async def read_picture(request: Request, limits: Limits) -> bytes:
    """Return the content of the file that a request holds, as its body or as the one file of a form.

    Raises:
        Refusal: It is too large, too slow, or there is not one file.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limits.max_bytes:
        raise too_many_bytes(limits, f"{int(declared):,} are announced")
    counted = _counted(request, limits)
    try:
        async with asyncio.timeout(limits.body_s):
            data = await (_file_of_form(counted) if _is_form(request) else counted.body())
    except TimeoutError:
        detail = f"the body did not arrive within {limits.body_s:g} s"
        raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "too slow", detail, limit={"body_s": limits.body_s}) from None
    if not data:
        detail = f"send an image file as the body, or as the field '{FIELD}' of a form"
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "empty file", detail)
    return data


def _is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


def _counted(request: Request, limits: Limits) -> Request:
    """Return the request such that reading more than the limit raises."""
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > limits.max_bytes:
            raise too_many_bytes(limits, f"{received:,} have come so far")
        return message

    return Request(request.scope, receive)


async def _file_of_form(request: Request) -> bytes:
    try:
        async with request.form(max_files=1, max_fields=16) as form:
            files = [value for value in form.values() if isinstance(value, UploadFile)]
            return await files[0].read() if files else b""
    except HTTPException as error:  # what starlette makes of a form that it can't read
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "damaged form", error.detail) from None
