"""The pages for people, which need nothing from elsewhere: one to try the service, one that shows its description."""

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from sisr.pictures.page import Page, render

ABOUT = "Enlarges pictures with a super-resolution model. The model may be replaced at any time; answers name it."


def add(app: FastAPI) -> None:
    """Add the pages to a service."""
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

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return _answer(try_it)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return _answer(description)


def _answer(page: Page) -> HTMLResponse:
    policy = f"{page.policy}; frame-ancestors 'none'"  # which only a header can say
    return HTMLResponse(page.html, headers={"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"})
