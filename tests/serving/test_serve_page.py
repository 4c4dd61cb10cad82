"""The page of `sisr serve` in a real browser, against a real server: drop, progress, slider, download, errors."""

import base64
import io
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import uvicorn
from PIL import Image

from sisr.serving import opening
from sisr.serving.app import build
from sisr.serving.engine import Engine
from sisr.serving.limits import Limits
from tiny_model import save

pytestmark = pytest.mark.browser

DROP = """([name, type, text]) => {
  const bytes = Uint8Array.from(atob(text), each => each.charCodeAt(0));
  const dropped = new DataTransfer();
  dropped.items.add(new File([bytes], name, { type }));
  for (const kind of ["dragover", "drop"])
    document.getElementById("drop").dispatchEvent(new DragEvent(kind, { bubbles: true, dataTransfer: dropped }));
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve a tiny model, version 7, scale 4, up to 10 kB."""
    release = opening.read(save(tmp_path_factory.mktemp("page") / "tiny"), "tiny", "7")
    app = build(Engine(release, torch.device("cpu"), Limits(max_bytes=10_000)))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(params=[1280, 390])
def page(browser, address, request):
    """Give the page, as wide as on a desktop or a phone; it must ask for nothing from elsewhere."""
    context = browser.new_context(viewport={"width": request.param, "height": 900}, has_touch=request.param == 390)
    opened = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    opened.on("request", lambda sent: asked.append(sent.url))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on(
        "console", lambda message: complaints.append(message.text) if "Content Security" in message.text else None
    )
    opened.goto(address)
    opened.get_by_text("tiny, version 7").wait_for()
    yield opened
    assert [url for url in asked if not url.startswith((address, "data:", f"blob:{address}"))] == []
    assert complaints == []
    assert opened.evaluate("document.documentElement.scrollWidth") <= request.param
    context.close()


def drop(page: Any, name: str, content: bytes) -> None:
    page.evaluate(DROP, [name, "image/png", base64.b64encode(content).decode()])


def grey(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (width, height), 128).save(file, "PNG")
    return file.getvalue()


def dropped(page: Any, content: bytes) -> Any:
    """Drop a picture and return the slider's handle."""
    drop(page, "my photo.png", content)
    page.locator("#result").wait_for()
    return page.get_by_role("slider")


def test_a_dropped_picture_is_shown_enlarged_and_can_be_saved(page, tmp_path):
    dropped(page, grey(30, 20))
    assert "30×20 → 120×80 px" in page.locator("#about").inner_text()
    assert "tiny version 7" in page.locator("#about").inner_text()
    box = page.locator(".viewer").bounding_box()
    assert box["width"] / box["height"] == pytest.approx(1.5, rel=0.01)
    with page.expect_download() as saving:
        page.get_by_role("link", name="Download").click()
    assert saving.value.suggested_filename == "my photo_x4.png"
    saving.value.save_as(tmp_path / "saved.png")
    assert Image.open(tmp_path / "saved.png").size == (120, 80)


def test_another_format_is_asked_for_again(page):
    dropped(page, grey(30, 20))
    with page.expect_response("**/upscale?format=webp") as answer:
        page.get_by_label("Format").select_option("webp")
    assert answer.value.headers["content-type"] == "image/webp"


def test_the_slider_moves_by_keyboard_mouse_and_finger_and_the_pictures_follow(page):
    handle, viewer = dropped(page, grey(60, 40)), page.locator(".viewer")
    viewer.scroll_into_view_if_needed()
    handle.focus()
    for key in ("Home", "PageUp"):
        page.keyboard.press(key)
    assert handle.get_attribute("aria-valuetext") == "10 % as sent, 90 % tiny"
    shown = np.asarray(Image.open(io.BytesIO(viewer.screenshot())).convert("RGB")).astype(int)
    sent = (np.abs(shown[shown.shape[0] * 4 // 5] - 128).max(axis=1) < 3).mean()
    assert 0.05 < sent < 0.5  # what the random network makes is seldom the grey that was sent
    box = viewer.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, middle, steps=3)
    page.mouse.up()
    assert int(handle.get_attribute("aria-valuenow")) == pytest.approx(80, abs=1)
    if page.viewport_size["width"] == 390:
        page.touchscreen.tap(box["x"] + box["width"] * 0.25, middle)
        assert int(handle.get_attribute("aria-valuenow")) == pytest.approx(25, abs=1)


def test_what_is_wrong_is_said_and_the_next_picture_works(page):
    drop(page, "notes.txt", b"hello")
    page.get_by_text("Not an image").wait_for()
    assert "PNG, JPEG, WebP, AVIF, BMP and TIFF are read" in page.get_by_role("alert").inner_text()
    drop(page, "large.png", bytes(20_000))
    page.get_by_text("Too many bytes").wait_for()
    assert "large.png has 0.02 MB; at most 0.01 MB" in page.get_by_role("alert").inner_text()
    dropped(page, grey(8, 8))
    assert not page.get_by_role("alert").is_visible()


def test_the_description_shows_every_request_and_answer(page, address):
    page.get_by_role("link", name="For programs").click()
    page.get_by_text("/ready", exact=True).wait_for()
    shown = page.locator("main").inner_text()
    for text in ("POST", "/upscale", "multipart/form-data", "Sisr-Version", "Retry-After", "504", f"{address}/upscale"):
        assert text in shown


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_the_policy_allows_nothing_inline_but_what_has_its_hash(address, path):
    with urllib.request.urlopen(address + path) as answer:
        policy = answer.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
