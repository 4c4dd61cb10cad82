"""Pages from templates: what their policy lets in, and that nothing written into them becomes markup."""

import hashlib
import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from jinja2 import ChoiceLoader, DictLoader, UndefinedError

from sisr.pictures import page as pages

SOURCES = {
    "test.html": '{% extends "pictures/base.html" %}{% block body %}<h1 class="made">{{ text }}</h1>{% endblock %}',
    "test.css": ".made { color: rgb(1, 2, 3) }",
    "test.js": 'document.title = "made";',
}
EVIL = (
    "</h1><style>h1 { color: rgb(9, 9, 9) }</style><script>document.title = 'evil'</script><img src=x onerror=alert(1)>"
)


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> pages.Page:
    """A page with a style, a script, and a text that would be markup if it were not escaped."""
    loader = ChoiceLoader([DictLoader(SOURCES), pages.TEMPLATES.loader or DictLoader({})])
    monkeypatch.setattr(pages, "TEMPLATES", pages.TEMPLATES.overlay(loader=loader))
    return pages.render("test.html", styles=["test.css"], scripts=["test.js"], text=EVIL)


def test_the_policy_names_the_hashes_of_style_and_script_and_nothing_unsafe(page: pages.Page) -> None:
    for element in ("style", "script"):
        (content,) = re.findall(rf"<{element}>(.*?)</{element}>", page.html, re.S)
        digest = b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in page.policy
    assert "unsafe" not in page.policy
    assert page.policy.startswith("default-src 'none'; ")
    assert page.policy.replace("'", "&#39;") in page.html


def test_texts_are_escaped(page: pages.Page) -> None:
    assert "onerror" in page.html
    assert "<img" not in page.html
    assert page.html.count("<script>") == 1


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        pages.render("serving/docs.html", styles=[], scripts=[])


@pytest.mark.browser
def test_a_browser_takes_the_page_s_own_style_and_script_and_refuses_all_others(
    page: pages.Page, browser: Any, tmp_path: Path
) -> None:
    """Even if escaping failed, the policy alone would keep out what a text brings."""
    broken = page.html.replace("</body>", f'{EVIL}<p style="color: red">text</p></body>')
    (tmp_path / "page.html").write_text(broken)
    opened = browser.new_page()
    refused: list[str] = []
    opened.on("console", lambda message: refused.append(message.text))
    opened.goto((tmp_path / "page.html").as_uri())
    colour = "element => getComputedStyle(element).color"
    assert opened.title() == "made"
    assert opened.locator("h1").first.evaluate(colour) == "rgb(1, 2, 3)"
    assert opened.locator("p").evaluate(colour) != "rgb(255, 0, 0)"
    assert len([text for text in refused if "Content Security Policy" in text]) >= 3
    opened.close()


def test_an_address_of_data_holds_the_file() -> None:
    assert pages.data_address(b"abc", "image/png") == "data:image/png;base64,YWJj"
