"""The HTTP service: a picture in, a larger one out, and the pages for people."""

import logging
from collections.abc import Iterable
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import sisr
from sisr.data.writing import QUALITY
from sisr.pictures.page import Page, render
from sisr.serving.engine import Engine, Upscaled
from sisr.serving.hosts import HeadAsGet, OnlyFor
from sisr.serving.limits import Refusal
from sisr.serving.request import FIELD, MEDIA_TYPES, choose, picture

_log = logging.getLogger(__name__)


class Problem(BaseModel):
    """Why a request was refused."""

    error: str = Field(description="What is wrong, in a few words that are the same for all such requests.")
    detail: str = Field(description="What was found in this request, and what would be right.")
    limit: dict[str, int | float] | None = Field(None, description="The limit that was exceeded, by name.")


class State(BaseModel):
    """What is served, and how busy it is."""

    ready: bool = Field(description="Whether the next request would be taken.")
    model: str = Field(description="The registered model, else the run or folder.")
    version: str = Field(description="In the registry, else the beginning of the weights' SHA-256.")
    scale: int = Field(description="Side of the answer / side of the picture that is sent.")
    device: str = Field(description="Where this process computes.")
    waiting: int = Field(description="Requests of this process that are received or wait.")
    limits: dict[str, int | float] = Field(description="What it takes on.")


PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": meaning}
    for status, meaning in {
        403: "Host or Origin names another service.",
        406: "Accept leaves no format that can be written.",
        408: "The body did not arrive in time.",
        413: "Too many bytes or pixels, or more than would be done in time.",
        415: "Not a PNG, JPEG, WebP, AVIF, BMP or TIFF file.",
        422: "Damaged, several frames, an unknown or wrong option, or not possible in the format asked for.",
        503: "Too many requests wait; Retry-After says when to come back.",
        504: "The picture was not done in time.",
    }.items()
}
READY: dict[int | str, dict[str, Any]] = {
    200: {"model": State, "description": "Yes."},
    503: {"model": State, "description": "No: too many wait."},
}
HEADERS = {
    "Sisr-Model": "Name of the model, percent-encoded.",
    "Sisr-Version": "Its version.",
    "Sisr-Scale": "How many times as wide and high the answer is.",
    "Server-Timing": "Milliseconds that the picture waited, and that it took.",
}
ANSWER = {
    "description": "The enlarged picture.",
    "content": {media: {"schema": {"type": "string", "format": "binary"}} for media in MEDIA_TYPES.values()},
    "headers": {name: {"description": text, "schema": {"type": "string"}} for name, text in HEADERS.items()},
}
FORM = {"type": "object", "required": [FIELD], "properties": {FIELD: {"type": "string", "format": "binary"}}}
BODY = {
    "required": True,
    "content": {
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {"schema": FORM},
    },
}
ABOUT = "Enlarges pictures with a super-resolution model. The model may be replaced at any time; answers name it."
OPTIONS = ("format", "quality")
CLIENT_GONE = 499  # as nginx calls it in its log
FORMAT = "Of the answer; default: the first of image/png, image/webp, image/jpeg that Accept names."


def build(engine: Engine, names: Iterable[str] = ()) -> FastAPI:
    """Return the service on an engine, which may be called by `names` besides localhost and addresses."""
    app = FastAPI(title="sisr", version=sisr.__version__, description=ABOUT, docs_url=None, redoc_url=None, debug=False)
    _add_upscale(app, engine)
    _add_state(app, engine)
    _add_pages(app)
    for kind, answer in {
        Refusal: _refused,
        ClientDisconnect: _gone,
        HTTPException: _failed,
        RequestValidationError: _invalid,
        Exception: _crashed,
    }.items():
        app.add_exception_handler(kind, answer)
    app.add_middleware(HeadAsGet)
    app.add_middleware(OnlyFor, names=names)
    return app


def _add_upscale(app: FastAPI, engine: Engine) -> None:
    @app.post(
        "/upscale",
        summary="Enlarge a picture",
        response_class=Response,
        responses={200: ANSWER, **PROBLEMS},
        openapi_extra={"requestBody": BODY},
    )
    async def upscale(
        request: Request,
        format: Annotated[Literal["png", "webp", "jpg", "jpeg"] | None, Query(description=FORMAT)] = None,
        quality: Annotated[int, Query(ge=1, le=100, description="Of JPEG and WebP.")] = QUALITY,
    ) -> Response:
        """Send an image file as the body, or as the one file of a form.

        EXIF orientation is applied; grey stays grey and transparency stays, but in JPEG; 16 bits become 8.
        """
        if unknown := sorted(request.query_params.keys() - OPTIONS):
            detail = f"{unknown[0]}; there are {', '.join(OPTIONS)}"
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "unknown option", detail)
        suffix = choose(format, request.headers.get("accept"))
        async with AsyncExitStack() as stack:
            with engine.receiving():
                file = await stack.enter_async_context(picture(request, engine.limits))
            with engine.place():
                done = await engine.upscale(file, suffix, quality)
        return Response(done.data, media_type=MEDIA_TYPES[suffix], headers=_described(done))


def _add_state(app: FastAPI, engine: Engine) -> None:
    @app.get("/health", summary="Is the process alive?", responses={200: {"description": "Yes."}})
    async def health() -> dict[str, str]:
        """Answer whatever else is going on."""
        return {"status": "ok"}

    @app.get("/ready", summary="Would a request be taken?", responses=READY)
    async def ready() -> JSONResponse:
        """Return what is served and how busy it is."""
        serving, limits = engine.serving, engine.takes
        state = State(
            ready=not engine.is_full,
            model=serving.release.name,
            version=serving.release.version,
            scale=serving.model.scale,
            device=str(engine.device),
            waiting=engine.waiting,
            limits=vars(limits),
        )
        return JSONResponse(state.model_dump(), 200 if state.ready else 503)


def _add_pages(app: FastAPI) -> None:
    """Add the pages for people, which need nothing from elsewhere: one to try the service, one that describes it."""
    try_it = render(
        "serving/try.html",
        styles=["serving/header.css", "pictures/slider.css", "serving/try.css"],
        scripts=["pictures/slider.js", "serving/try.js"],
        allow="img-src blob: data:; connect-src 'self'",
    )
    description = render(
        "serving/docs.html",
        styles=["serving/header.css", "serving/docs.css"],
        scripts=["serving/docs.js"],
        allow="img-src data:; connect-src 'self'",
        about=ABOUT,
    )

    def answer(page: Page) -> HTMLResponse:
        policy = f"{page.policy}; frame-ancestors 'none'"  # which only a header can say
        return HTMLResponse(page.html, headers={"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"})

    app.add_api_route("/", lambda: answer(try_it), include_in_schema=False)
    app.add_api_route("/docs", lambda: answer(description), include_in_schema=False)


def _described(done: Upscaled) -> dict[str, str]:
    release = done.serving.release
    return {
        "Sisr-Model": quote(release.name, safe=""),
        "Sisr-Version": quote(release.version, safe=""),
        "Sisr-Scale": str(done.serving.model.scale),
        "Server-Timing": f"wait;dur={1000 * done.waited_s:.1f}, upscale;dur={1000 * done.computed_s:.1f}",
        "Cache-Control": "no-store",
    }


async def _refused(request: Request, error: Any) -> JSONResponse:
    return JSONResponse(error.body, error.status, error.headers)


async def _gone(request: Request, error: Any) -> Response:
    return Response(status_code=CLIENT_GONE)  # which nobody reads


async def _failed(request: Request, error: Any) -> JSONResponse:
    status = HTTPStatus(error.status_code)
    refusal = Refusal(status, status.phrase.lower(), f"{request.method} {request.url.path}; /docs lists what there is")
    return JSONResponse(refusal.body, status, error.headers)


async def _invalid(request: Request, error: Any) -> JSONResponse:
    detail = "; ".join(f"{found['loc'][-1]}: {found['msg']}, got {found['input']!r}" for found in error.errors())
    return await _refused(request, Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "wrong option", detail))


async def _crashed(request: Request, error: Exception) -> JSONResponse:
    _log.error("%s %s", request.method, request.url.path, exc_info=error)
    detail = f"this is our mistake: {type(error).__name__}; the process goes on, and its log has the traceback"
    return await _refused(request, Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error", detail))
