"""Frames of an animation, drawn from sample pictures: chosen rows, smaller where asked for, with a caption below.

The pixels of the cells stay as they are unless a frame has to be smaller.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from sisr.pictures.contact_sheet import Layout, read

FONT_SIZE = 13  # px
LINE = 18  # px, height of one line of a caption
MARGIN = 4  # px, left of a caption and above its first line
GAP = 14  # px, between the parts of a line


@dataclass(frozen=True)
class Sample:
    """A sample picture on the disk."""

    step: int
    path: Path
    caption: tuple[str, ...]  # parts, each of which keeps its place from frame to frame


class Artist:
    """Draws frames that differ only in what changed between two samples: every part of a caption keeps its place."""

    def __init__(self, layout: Layout, rows: Sequence[int], samples: Sequence[Sample]) -> None:
        """Plan the captions.

        Args:
            layout: Of all samples.
            rows: The rows to show, from 0, in this order.
            samples: In the order of time; their captions have the same number of parts.
        """
        self._layout, self._rows, self._samples = layout, rows, samples
        self._font = ImageFont.load_default(FONT_SIZE)
        columns = zip(*(sample.caption for sample in samples), strict=True)
        self._widths = [max(int(self._font.getlength(part)) + 1 for part in column) for column in columns]

    def draw(self, index: int, factor: float) -> Image.Image:
        """Return the frame of one sample, cells smaller by `factor` (at most 1).

        Raises:
            DataError: The sample can't be decoded.
        """
        sample, plan = self._samples[index], self._layout
        picture = read(sample.path)
        width, height = (max(1, round(side * factor)) for side in (plan.column_width, plan.row_height))
        sheet_height = plan.header + len(self._rows) * height
        places, caption_height = self._places(plan.columns * width)
        frame_width = max(plan.columns * width, MARGIN + max(self._widths))
        frame = Image.new("RGB", (frame_width, sheet_height + caption_height), "white")
        for column in range(plan.columns):
            left = column * plan.column_width
            frame.paste(picture.crop((left, 0, left + width, plan.header)), (column * width, 0))
            for line, row in enumerate(self._rows):
                top = plan.header + row * plan.row_height
                cell = picture.crop((left, top, left + plan.column_width, top + plan.row_height))
                cell = cell if factor == 1 else cell.resize((width, height), Image.Resampling.LANCZOS)
                frame.paste(cell, (column * width, plan.header + line * height))
        pen = ImageDraw.Draw(frame)
        for (x, y), part in zip(places, sample.caption, strict=True):
            pen.text((x, sheet_height + y), part, fill="black", font=self._font)
        return frame

    def _places(self, width: int) -> tuple[list[tuple[int, int]], int]:
        """Return where each part of a caption stands below a sheet, and the height of all lines in px."""
        places, x, y = [], MARGIN, MARGIN
        for part_width in self._widths:
            if x > MARGIN and x + part_width > width:
                x, y = MARGIN, y + LINE
            places.append((x, y))
            x += part_width + GAP
        return places, y + LINE


def spread(count: int, chosen: int) -> list[int]:
    """Return `chosen` indices of `count`, evenly spread; the first and the last are among them."""
    if chosen >= count:
        return list(range(count))
    return [round(i * (count - 1) / (chosen - 1)) for i in range(chosen)]
