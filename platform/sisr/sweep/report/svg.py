"""Figures as SVG whose colours a page decides, so that one picture is readable on light and on dark paper.

Matplotlib writes styles into each element, which a page's content security policy refuses; here they become attributes.
"""

import io
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from sisr.pictures.page import TEMPLATES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = "sweep/report/plots.css"
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
# What figures are drawn in, and the name that the style sheet knows it by: Okabe and Ito's palette, which holds for the
# common kinds of colour blindness, darker where it is thin on white.
COLOURS = {
    "#23272e": "ink",
    "#e6e8eb": "grid",
    "#b5bac2": "edge",
    "#6f7680": "axis",
    "#ffffff": "paper",
    "#0072b2": "blue",
    "#d55e00": "orange",
    "#009e73": "green",
    "#8a8f98": "grey",
}
_COLOUR = re.compile("|".join(COLOURS))
_LEFT_OUT = {"font-family"}  # the page's own


def svg(made: "Figure", title: str, *, alone: bool) -> str:
    """Return a figure as SVG; the same figure gives the same text.

    Args:
        made: Drawn in `COLOURS` only.
        title: Says aloud what is to be seen.
        alone: Whether it carries the style itself, as a file must; else it takes the page's.
    """
    import matplotlib

    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        made.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    for prefix, address in (("", SVG), ("xlink", XLINK)):
        ElementTree.register_namespace(prefix, address)
    root = ElementTree.fromstring(file.getvalue())
    _clean(root)
    root.attrib |= {"role": "img", "aria-label": title}
    if alone:
        style = ElementTree.Element(f"{{{SVG}}}style")
        style.text = (
            TEMPLATES.get_template(STYLE).render() + "svg { background: var(--plot-paper); font-family: sans-serif }"
        )
        root.insert(0, style)
    return ElementTree.tostring(root, encoding="unicode")


def _clean(root: ElementTree.Element) -> None:
    """Turn styles into attributes, colours into names, and remove what nothing refers to."""
    for parent in root.iter():
        for child in [child for child in parent if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style")]:
            parent.remove(child)
    for element in root.iter():
        for part in element.attrib.pop("style", "").split(";"):
            name, _, value = (text.strip() for text in part.partition(":"))
            if name and name not in _LEFT_OUT:
                element.set(name, value)
        if element.tag == f"{{{SVG}}}text" and "fill" not in element.attrib:
            element.set("fill", "#23272e")
        for name in ("fill", "stroke"):
            if name in element.attrib:
                element.set(name, _COLOUR.sub(lambda found: f"var(--plot-{COLOURS[found[0]]})", element.get(name, "")))
    text = ElementTree.tostring(root, encoding="unicode")
    referred = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'href="#([^"]+)"', text))
    for element in root.iter():
        if element.get("id") not in referred:
            element.attrib.pop("id", None)
