"""Web pages from templates: one base with one style, which needs nothing from elsewhere and lets nothing else in."""

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

# Templates have their path in the package as their name. What is written into them is escaped.
TEMPLATES = Environment(
    loader=PackageLoader("sisr", ""),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
BASE_STYLE = "pictures/base.css"


@dataclass(frozen=True)
class Page:
    """A page that holds its style and its script."""

    html: str
    policy: str  # content security policy, which the page itself carries; a server may send it, too


def render(
    template: str,
    *,
    styles: Sequence[str] = (),
    scripts: Sequence[str] = (),
    allow: str = "img-src data:",
    **values: Any,
) -> Page:
    """Return a page whose policy allows exactly the style and script that it was made with, by their hashes.

    Args:
        template: Extends `pictures/base.html`.
        styles: Style sheets, added to the common one.
        scripts: Scripts, run in this order at the end of the page.
        allow: Policy for anything but styles and scripts; what it does not name is refused.
        values: Used in the template, the styles and the scripts.
    """
    style = _joined((BASE_STYLE, *styles), values)
    script = Markup('"use strict";\n') + _joined(scripts, values)
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; {allow}; "
        "base-uri 'none'; form-action 'none'"
    )
    html = TEMPLATES.get_template(template).render(values, style=style, script=script, policy=policy)
    return Page(html, policy)


def _joined(names: Sequence[str], values: dict[str, Any]) -> Markup:
    return Markup("\n").join(Markup(TEMPLATES.get_template(name).render(values)) for name in names)


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def data_address(content: bytes, kind: str) -> str:
    """Return an address (data URI) that holds a file itself, of a media type such as `image/png`."""
    return f"data:{kind};base64,{b64encode(content).decode()}"
