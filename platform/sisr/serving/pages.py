"""The pages for people, which need nothing from elsewhere: one to try the service, one that shows its description."""

import hashlib
from base64 import b64encode
from functools import cache
from html import escape
from importlib import resources
from string import Template

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from sisr.pictures import slider

ABOUT = "Enlarges pictures with a super-resolution model. The model may be replaced at any time; answers name it."


def add(app: FastAPI) -> None:
    """Add the pages to a service."""
    viewer = slider.viewer("Boundary between the picture that was sent and the enlarged one")

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return _page("try", slider.style(), slider.script(), viewer=viewer)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return _page("docs", "", "", about=escape(ABOUT))


def _page(name: str, style: str, script: str, **parts: str) -> HTMLResponse:
    """Return `name`.html around its own style and script, each after a given one."""
    style, script = _read("page.css") + style + _read(f"{name}.css"), f'"use strict";\n{script}{_read(f"{name}.js")}'
    html = Template(_read(f"{name}.html")).substitute(style=style, script=script, **parts)
    return HTMLResponse(html, headers={"Content-Security-Policy": _policy(script), "X-Content-Type-Options": "nosniff"})


def _policy(script: str) -> str:
    """Return what the page may do: run this very script, talk to us, and show what it was given."""
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@cache
def _read(name: str) -> str:
    return resources.files("sisr.serving").joinpath(name).read_text(encoding="utf-8")
