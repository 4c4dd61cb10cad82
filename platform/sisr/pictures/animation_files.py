"""Animations as files that fit into a limit of bytes: WebP and GIF by Pillow, MP4 by imageio-ffmpeg if installed."""

import importlib
import io
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image

from sisr.errors import ConfigError
from sisr.pictures.animation import spread
from sisr.pictures.contact_sheet import Layout

SUFFIXES = (".webp", ".gif", ".mp4")
QUALITY = 90  # of WebP where lossless is too large
GIF_TICK_MS = 10
FEW = 24  # frames; this many are kept before they are made smaller
LEAST_COLUMN = 48  # px; columns are not made narrower

Draw = Callable[[int, float], Image.Image]


@dataclass(frozen=True)
class Timing:
    """How long frames are shown."""

    frames_per_second: float
    hold_last_s: float  # the last frame stays at least so long

    def durations_ms(self, count: int, tick_ms: int = 1) -> list[int]:
        """Return how long each of `count` frames is shown, in whole ticks."""
        each, last = 1000 / self.frames_per_second, self.hold_last_s * 1000
        ticks = [max(1, round(ms / tick_ms)) for ms in (each, max(each, last))]
        return [ticks[0] * tick_ms] * (count - 1) + [ticks[1] * tick_ms]


def encode(frames: list[Image.Image], columns: int, suffix: str, timing: Timing, lossless: bool = True) -> bytes:
    """Return an animation's file; WebP and GIF repeat for ever.

    Raises:
        ConfigError: The format's encoder is not installed.
    """
    if suffix == ".mp4":
        return _mp4(frames, timing)
    target = io.BytesIO()
    if suffix == ".gif":
        frames = _in_one_palette(frames, columns)
        options: dict[str, Any] = {"format": "GIF", "duration": timing.durations_ms(len(frames), GIF_TICK_MS)}
    else:
        options = {"format": "WEBP", "duration": timing.durations_ms(len(frames)), "lossless": lossless}
        options |= {} if lossless else {"quality": QUALITY, "method": 5, "kmin": 0, "kmax": 0}  # whole frames cost most
    frames[0].save(target, save_all=True, append_images=frames[1:], loop=0, **options)
    return target.getvalue()


def _in_one_palette(frames: list[Image.Image], columns: int) -> list[Image.Image]:
    """Return the frames in 256 colours, so that what does not change between them does not flicker.

    All have one palette, and each column is dithered by itself: what changes in one leaves the others alone.
    """
    shown = [frames[i] for i in spread(len(frames), 3)]
    width, height = frames[0].size
    montage = Image.new("RGB", (width, height * len(shown)))
    for i, frame in enumerate(shown):
        montage.paste(frame, (0, i * height))
    palette = montage.quantize(256, method=Image.Quantize.MEDIANCUT)
    edges = [column * width // columns for column in range(columns + 1)]
    reduced = []
    for frame in frames:
        result = Image.new("P", frame.size)
        result.putpalette(palette.getpalette() or [])
        for left, right in pairwise(edges):
            result.paste(frame.crop((left, 0, right, height)).quantize(palette=palette), (left, 0))
        reduced.append(result)
    return reduced


def _mp4(frames: list[Image.Image], timing: Timing) -> bytes:
    """Return H.264 as every player knows it; sides are made even by a white edge."""
    ffmpeg = _ffmpeg()
    width, height = (side + side % 2 for side in frames[0].size)
    each, *_, last = timing.durations_ms(len(frames))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "animation.mp4"
        writer = ffmpeg.write_frames(
            str(path),
            (width, height),
            fps=timing.frames_per_second,
            quality=8,
            macro_block_size=2,
            ffmpeg_log_level="error",
            output_params=["-movflags", "+faststart"],
        )
        writer.send(None)
        for frame in frames + [frames[-1]] * (round(last / each) - 1):
            even = Image.new("RGB", (width, height), "white")
            even.paste(frame)
            writer.send(even.tobytes())
        writer.close()
        return path.read_bytes()


def check(target: Path) -> str:
    """Return the suffix of a file that is to be written, in small letters.

    Raises:
        ConfigError: It names no format of `SUFFIXES`, or one whose encoder is not installed.
    """
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(f"--output {target}: can't write '{suffix}'; the name must end with {', '.join(SUFFIXES)}")
    if suffix == ".mp4":
        _ffmpeg()
    return suffix


def _ffmpeg() -> Any:
    try:
        module = importlib.import_module("imageio_ffmpeg")
        module.get_ffmpeg_exe()
    except ImportError as error:
        raise ConfigError(
            "MP4 needs the package imageio-ffmpeg: pip install 'sisr[video]'; .webp and .gif need nothing"
        ) from error
    except RuntimeError as error:
        raise ConfigError(f"MP4 needs the program ffmpeg, which imageio-ffmpeg does not find: {error}") from error
    return module


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
