"""A boundary between two pictures that mouse, finger and keyboard move: the part of a page that shows it."""

from html import escape
from importlib import resources

START = 50  # per cent of the width that show the left picture at first


def style() -> str:
    """Return the style rules; `--width` and `--height` are the picture's, `--mark` is the colour of the focus."""
    return _read("slider.css")


def script() -> str:
    """Return the script; a page calls its `makeSlider(viewer, names)` for each viewer."""
    return _read("slider.js")


def viewer(label: str, back: str = "", front: str = "", over: str = "") -> str:
    """Return the HTML of a viewer.

    Args:
        label: Says aloud what the boundary is between.
        back: Further classes of the right picture's layer, which carry its background image.
        front: The same of the left picture's.
        over: HTML to lay over both pictures.
    """
    return f"""<div class="viewer" style="--at: {START}">
<div class="layer back {back}"></div>
<div class="layer front {front}"></div>
{over}
<span class="side left"></span><span class="side right"></span>
<div class="handle" role="slider" tabindex="0" aria-orientation="horizontal"
 aria-valuemin="0" aria-valuemax="100" aria-valuenow="{START}" aria-label="{escape(label)}"></div>
</div>"""


def _read(name: str) -> str:
    return resources.files("sisr.pictures").joinpath(name).read_text(encoding="utf-8")
