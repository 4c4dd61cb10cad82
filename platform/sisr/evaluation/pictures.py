"""Patches, error maps, and the contact sheets that show them side by side."""

import io
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sisr.evaluation.gallery import Pixels, Place

BRIGHTEST = 48  # grey levels of error that an error map shows in its last colour, and all beyond
COLOURS = ((0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164))  # evenly spaced
ZOOM = 2
HEADER = 18  # px, above a column of a contact sheet
MARGIN = 4


def error_map(sr: Pixels, hr: Pixels) -> Pixels:
    """Return |sr - hr|, averaged over channels, in colours (h, w, 3) from black, 0, to yellow, `BRIGHTEST` and more."""
    error = np.abs(sr.astype(np.float64) - hr)
    error = error.mean(axis=2) if error.ndim == 3 else error
    return _table()[np.rint(np.minimum(error / BRIGHTEST, 1) * 255).astype(np.uint8)]


@cache
def _table() -> NDArray[np.uint8]:
    at = np.linspace(0, len(COLOURS) - 1, 256)
    channels = np.array(COLOURS, np.float64).T
    return (
        np.stack([np.interp(at, range(len(COLOURS)), channel) for channel in channels], axis=1).round().astype(np.uint8)
    )


def png(pixels: Pixels) -> bytes:
    """Return a picture as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", optimize=True)
    return file.getvalue()


def contact_sheet(place: Place, names: Sequence[str]) -> Image.Image:
    """Return one place as a picture: in columns hr and each model, with the error map below each model's patch.

    Args:
        place: What to show.
        names: Of the models.
    """
    hr, *sr = (place.patch(region) for region in place.regions)
    side = place.side * ZOOM
    picture = Image.new("RGB", (MARGIN + (len(sr) + 1) * (side + MARGIN), HEADER + 2 * (side + MARGIN)), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    for column, (name, patch) in enumerate(zip(["HR", *names], [hr, *sr], strict=True)):
        left = MARGIN + column * (side + MARGIN)
        pen.text((left, 2), _shortened(name, font, side), fill="black", font=font)
        picture.paste(_enlarged(patch), (left, HEADER))
        if column:
            picture.paste(_enlarged(error_map(patch, hr)), (left, HEADER + side + MARGIN))
    scale = f"below: |SR - HR|, black 0\nto yellow {BRIGHTEST} grey levels\n\n{_shortened(place.image, font, side)}"
    pen.text((MARGIN, HEADER + side + 2 * MARGIN), scale, fill="black", font=font)
    return picture


def _enlarged(patch: Pixels) -> Image.Image:
    repeated = patch.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)
    return Image.fromarray(repeated).convert("RGB")


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Return the end of a text, which tells names apart better than the beginning, so that it fits in `width` px."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"...{text}") > width:
        text = text[1:]
    return f"...{text}"
