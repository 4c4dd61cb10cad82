"""Whom the service answers: a web page from elsewhere must neither read its answers nor make it compute.

A page reaches a service on its visitor's machine by a name that its owner lets point there (DNS rebinding), which the
header Host shows, or by sending a request blindly, which has the page's Origin.
"""

import ipaddress
from collections.abc import Iterable
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sisr.serving.limits import Refusal

LOCAL = {"localhost", "127.0.0.1", "::1"}


class OnlyFor:
    """An application that answers requests only for this machine's names, addresses, and further allowed names.

    Args:
        app: What answers them.
        names: Further names, without port, such as that of a proxy in front.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str] = ()) -> None:
        self._app, self._names = app, LOCAL | {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse with 403."""
        if scope["type"] == "http" and (problem := self._problem(Headers(scope=scope))):
            refusal = Refusal(HTTPStatus.FORBIDDEN, "forbidden", f"{problem}; --allowed-hosts names what is allowed")
            answer = JSONResponse(refusal.body, refusal.status, {"Connection": "close"})
            await answer(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _problem(self, headers: Headers) -> str:
        host, origin = headers.get("host", ""), headers.get("origin")
        name = _name(f"//{host}")
        if name not in self._names and not _is_address(name):  # which no page can make point elsewhere
            return f"this service is not called {host!r}"
        if origin is not None and origin.partition("://")[2] != host and _name(origin) not in self._names:
            return f"a page of {origin!r} may not use this service"
        return ""


class HeadAsGet:
    """An application that answers HEAD as it would GET, without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                message["body"] = b""
            await send(message)

        await self._app({**scope, "method": "GET"}, receive, send_head)


def _name(url: str) -> str:
    with suppress(ValueError):
        return (urlsplit(url).hostname or "").lower()
    return ""


def _is_address(name: str) -> bool:
    with suppress(ValueError):
        return bool(ipaddress.ip_address(name))
    return False
