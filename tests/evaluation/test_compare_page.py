"""The page of a comparison in a real browser: its slider by keyboard, mouse and touch, and what it shows."""

import numpy as np
import pytest

from sisr.evaluation.gallery import Gallery
from sisr.evaluation.measure import ImageResult, Measurement
from sisr.evaluation.page import page as write_page
from sisr.evaluation.ranking import Cost, rank

pytestmark = pytest.mark.browser

COLOURS = {"HR": (255, 0, 0), "one": (0, 255, 0), "two": (0, 0, 255), "LR": (255, 255, 255)}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Return the page of two models on two pictures: hr all red, one model's all green, the other's all blue."""
    hr, *sr = (np.full((200, 240, 3), COLOURS[name], np.uint8) for name in ("HR", "one", "two"))
    gallery = Gallery()
    results = [ImageResult(name, {"psnr_y": 30.0, "ssim_y": 0.9}, 0.01) for name in ("first.png", "second.png")]
    for result in results:
        gallery.add(result.name, hr, sr, 2, np.full((50, 60, 3), 255, np.uint8))
    rows = rank([Measurement(name, "rgb8", results) for name in ("one", "two")], [Cost(1, 2)] * 2, "one")
    path = tmp_path_factory.mktemp("page") / "comparison.html"
    path.write_text(write_page(rows, gallery.places, ["2 images"], []), encoding="utf-8")
    return path


@pytest.fixture(params=[1280, 390])
def page(browser, file, request):
    """Give the page, as wide as on a desktop or a phone; it must ask for nothing and complain of nothing."""
    context = browser.new_context(viewport={"width": request.param, "height": 900}, has_touch=request.param == 390)
    opened = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    opened.on("request", lambda sent: asked.append(sent.url))
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(file.as_uri())
    yield opened
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert complaints == []
    context.close()


def value(handle) -> int:
    return int(handle.get_attribute("aria-valuenow"))


def shares(page) -> dict[str, float]:
    """Return which share of a line across the first viewer has each picture's colour."""
    import io

    from PIL import Image

    shot = Image.open(io.BytesIO(page.locator(".viewer").first.screenshot())).convert("RGB")
    line = np.asarray(shot)[shot.height * 4 // 5].astype(int)
    return {name: float((np.abs(line - colour).sum(axis=1) < 30).mean()) for name, colour in COLOURS.items()}


def test_nothing_is_wider_than_the_window_and_pictures_are_enlarged_by_whole_numbers(page):
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".viewer").first.bounding_box()["width"] == 240 * (2 if width > 700 else 1)


def test_the_keyboard_moves_the_slider_and_the_pictures_follow(page):
    handle = page.get_by_role("slider").first
    handle.focus()
    assert value(handle) == 50
    for key, expected in (
        ("ArrowRight", 51), ("ArrowLeft", 50), ("Shift+ArrowLeft", 40), ("PageUp", 50), ("ArrowUp", 51),
        ("End", 100), ("ArrowRight", 100), ("Home", 0), ("PageUp", 10),
    ):  # fmt: skip
        page.keyboard.press(key)
        assert value(handle) == expected
    found = shares(page)
    assert found["one"] == pytest.approx(0.10, abs=0.03)
    assert found["HR"] == pytest.approx(0.90, abs=0.03)
    assert handle.get_attribute("aria-valuetext") == "10 % one, 90 % HR"
    assert value(page.get_by_role("slider").nth(1)) == 50


def test_the_mouse_moves_the_slider_while_it_is_pressed_only(page):
    handle, viewer = page.get_by_role("slider").first, page.locator(".viewer").first
    viewer.scroll_into_view_if_needed()
    box = viewer.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, y, steps=4)
    assert value(handle) == pytest.approx(80, abs=1)
    page.mouse.move(box["x"] + 2 * box["width"], y)
    assert value(handle) == 100
    page.mouse.move(box["x"] + box["width"] * 0.3, y)
    page.mouse.up()
    page.mouse.move(box["x"] + box["width"] * 0.7, y)
    assert value(handle) == pytest.approx(30, abs=1)
    assert shares(page)["one"] == pytest.approx(0.30, abs=0.03)


def test_a_finger_moves_the_slider(page):
    if page.viewport_size["width"] > 700:
        pytest.skip("this window has no touch screen")
    viewer = page.locator(".viewer").first
    viewer.scroll_into_view_if_needed()
    box = viewer.bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] * 0.25, box["y"] + 20)
    assert value(page.get_by_role("slider").first) == pytest.approx(25, abs=1)


def test_any_two_pictures_can_be_chosen(page):
    left, right = page.get_by_label("Left").first, page.get_by_label("Right").first
    assert left.locator("option").all_inner_texts() == ["HR", "one", "two", "LR"]
    left.select_option(label="HR")
    right.select_option(label="two")
    found = shares(page)
    assert found["HR"] == pytest.approx(0.5, abs=0.03)
    assert found["two"] == pytest.approx(0.5, abs=0.03)
    assert page.locator(".side.left").first.inner_text() == "HR"
    right.select_option(label="LR")
    assert shares(page)["LR"] == pytest.approx(0.5, abs=0.03)


def test_crops_and_error_maps_are_shown_for_each_model(page):
    first = page.locator(".place").first
    assert first.locator(".crop:not(.error)").count() == 4
    assert first.locator(".crop.error").count() == 2
    assert "30.00 dB PSNR-Y" in first.locator("figcaption").nth(1).inner_text()


def test_zoom_enlarges_the_marked_patch_in_a_viewer_of_the_same_size(page):
    place = page.locator(".place").first
    before, patch = place.locator(".viewer").bounding_box(), place.locator(".patch").bounding_box()
    place.get_by_role("button", name="2×").press("Enter")
    assert place.get_by_role("button", name="2×").get_attribute("aria-pressed") == "true"
    after, enlarged = place.locator(".viewer").bounding_box(), place.locator(".patch").bounding_box()
    assert (after["width"], after["height"]) == (before["width"], before["height"])
    assert enlarged["width"] == pytest.approx(2 * patch["width"], abs=3)
    inside = enlarged["x"] - after["x"], enlarged["y"] - after["y"]
    assert min(inside) >= -1
    assert inside[0] + enlarged["width"] <= after["width"] + 1
