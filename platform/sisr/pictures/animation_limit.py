"""Animations that fit into a limit of bytes, and what had to be given up for it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from PIL import Image

from sisr.errors import ConfigError
from sisr.pictures.animation import spread
from sisr.pictures.animation_files import QUALITY, Timing, encode
from sisr.pictures.contact_sheet import Layout

FEW = 24  # frames; this many are kept before they are made smaller
LEAST_COLUMN = 48  # px; columns are not made narrower

Draw = Callable[[int, float], Image.Image]


@dataclass(frozen=True)
class Attempt:
    """One way of making an animation, and what came of it."""

    chosen: list[int]  # indices of the samples shown
    factor: float = 1.0  # of the cells' sides
    lossless: bool = True
    content: bytes = field(default=b"", repr=False)
    size: tuple[int, int] = (0, 0)  # px

    def given_up(self, count: int, suffix: str) -> list[str]:
        """Return a note for each thing that was given up of `count` unchanged frames."""
        notes = []
        if len(self.chosen) < count:
            notes.append(f"{len(self.chosen)} of {count} frames")
        if self.factor < 1:
            notes.append(f"pictures at {self.factor:.0%} of their sides")
        if not self.lossless and suffix == ".webp":
            notes.append(f"WebP's quality {QUALITY} instead of lossless")
        return notes


def fit(draw: Draw, count: int, layout: Layout, suffix: str, timing: Timing, limit: int) -> Attempt:
    """Return the animation that keeps most of what there is in at most `limit` bytes.

    First all frames, unchanged. Then WebP with loss; then fewer frames down to `FEW`; then smaller ones; then two.

    Args:
        draw: Returns the frame at an index, cells smaller by the given factor.
        count: Of frames there are; at least 2.
        layout: Of the pictures in the frames, before anything is made smaller.
        suffix: One of `SUFFIXES`.
        timing: Of the frames that stay.
        limit: Bytes.

    Raises:
        ConfigError: Nothing fits, or the format's encoder is not installed.
    """
    plan = Attempt(list(range(count)))
    while True:
        frames = [draw(index, plan.factor) for index in plan.chosen]
        content = encode(frames, layout.columns, suffix, timing, plan.lossless)
        plan = replace(plan, content=content, size=frames[0].size)
        if len(content) <= limit:
            return plan
        smaller = _smaller(plan, count, layout.column_width, suffix, limit / len(content))
        if smaller is None:
            raise ConfigError(
                f"--max-mb {limit / 1e6:g}: even {len(frames)} frames of {plan.size[0]}x{plan.size[1]} px take "
                f"{len(content) / 1e6:.3f} MB; allow more, or choose fewer --rows"
            )
        plan = smaller


def _smaller(plan: Attempt, count: int, column_width: int, suffix: str, ratio: float) -> Attempt | None:
    """Return what to try after a plan whose file was 1 / ratio times the limit; None where nothing is left to try."""
    least, frames = min(1.0, LEAST_COLUMN / column_width), len(plan.chosen)
    if plan.lossless and suffix == ".webp":
        return replace(plan, lossless=False)
    if frames > FEW:
        return replace(plan, chosen=spread(count, max(FEW, min(frames - 1, int(frames * ratio)))))
    if plan.factor > least:
        return replace(plan, factor=max(least, plan.factor * min(0.9, max(0.5, math.sqrt(ratio) * 0.95))))
    if frames > 2:
        return replace(plan, chosen=spread(count, max(2, min(frames - 1, int(frames * ratio)))))
    return None
