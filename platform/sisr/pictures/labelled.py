"""Pictures in rows and columns with words beside them: a title above each column, a caption below each picture."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

GAP = 4  # px, between pictures and around them
SMALLEST, LARGEST = 12, 96  # px, size of letters
LETTERS = 28  # that a column has room for, about, where its letters are neither the smallest nor the largest
INK, PAPER = "black", "white"
MODES = ("L", "LA", "RGB", "RGBA")  # by the number of channels


def labelled(
    titles: Sequence[str],
    rows: Sequence[Sequence[Image.Image | None]],
    captions: Sequence[Sequence[str]] = (),
) -> Image.Image:
    """Return one picture of many, which stand unchanged, each in the top left corner of its cell.

    Args:
        titles: One for each column.
        rows: As many pictures in each as there are titles; None: the cell stays empty.
        captions: Of all pictures, row by row; "" and missing ones take no room where a whole row has none. A line break
            begins a new line; what does not fit into a column loses its beginning.
    """
    pictures = [picture for row in rows for picture in row if picture]
    width, heights = max(p.width for p in pictures), [max((p.height for p in row if p), default=0) for row in rows]
    texts = [list(captions[i]) if i < len(captions) else [] for i in range(len(rows))]
    head, font = header(titles, width, GAP), font_for(width)
    line = line_height(font)
    below = [line * max((text.count("\n") + 1 for text in row if text), default=0) for row in texts]
    size = head.width, head.height + sum(heights) + sum(below) + GAP * len(rows)
    sheet = Image.new("RGB", size, PAPER)
    sheet.paste(head)
    pen, top = ImageDraw.Draw(sheet), head.height
    for row, height, words, room in zip(rows, heights, texts, below, strict=True):
        for column, picture in enumerate(row):
            left = GAP + column * (width + GAP)
            if picture:
                sheet.paste(picture.convert("RGB"), (left, top))
            for i, text in enumerate(words[column].split("\n") if column < len(words) else ()):
                pen.text((left, top + height + i * line), shortened(text, font, width), fill=INK, font=font)
        top += height + room + GAP
    return sheet


def header(titles: Sequence[str], width: int, gap: int = 0) -> Image.Image:
    """Return the strip that stands above columns of `width` px, with `gap` px around each, and names them."""
    font = font_for(width)
    strip = Image.new("RGB", (gap + len(titles) * (width + gap), line_height(font) + GAP), PAPER)
    pen = ImageDraw.Draw(strip)
    for column, title in enumerate(titles):
        left = column * (width + gap) + (gap or GAP)
        pen.text((left, GAP // 2), shortened(title, font, width - 2 * GAP), fill=INK, font=font)
    return strip


def header_pixels(titles: Sequence[str], width: int, channels: int) -> NDArray[np.uint8]:
    """Return `header`, without gaps, as pixels: (h, len(titles) * width, channels), opaque where there is alpha."""
    strip = header(titles, width)
    return np.asarray(strip.convert(MODES[channels - 1])).reshape(strip.height, strip.width, channels)


def font_for(width: int) -> Font:
    """Return a font whose letters grow with the column that they stand above."""
    return ImageFont.load_default(min(LARGEST, max(SMALLEST, round(1.8 * width / LETTERS))))


def line_height(font: Font) -> int:
    """Return the distance of two lines in px."""
    _, _, _, bottom = font.getbbox("Ag|")
    return round(bottom) + 3


def shortened(text: str, font: Font, width: int) -> str:
    """Return the end of a text, which tells names apart better than the beginning, so that it fits in `width` px."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"...{text}") > width:
        text = text[1:]
    return f"...{text}"
