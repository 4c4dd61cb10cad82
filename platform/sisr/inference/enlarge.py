"""From one image file to a larger one."""

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from sisr.data.images import MAX_PIXELS, Picture, decode_with_alpha
from sisr.data.writing import SAVING, Saving, check, encoded, written
from sisr.errors import OutOfMemoryError
from sisr.inference.strips import Enlargement
from sisr.recipe import Generator

Begin = Callable[[Enlargement], AbstractContextManager[Callable[[], None]]]


@dataclass(frozen=True)
class Enlarged:
    """What was written."""

    width: int  # px
    height: int  # px
    notes: tuple[str, ...]  # what was converted on reading


def enlarge(
    generator: Generator,
    source: Path,
    target: Path,
    comparison: Path | None = None,
    *,
    tile: int | None = None,
    halo: int | None = None,
    saving: Saving = SAVING,
    begin: Begin = lambda _: nullcontext(lambda: None),
) -> Enlarged:
    """Enlarge an image file; an older target is replaced.

    Grey and transparent images keep their channels, EXIF orientation is applied, the colour profile is kept.

    Args:
        generator: See `sisr.inference.tiled.upscale`.
        source: PNG, JPEG, WebP, BMP or TIFF.
        target: .png, .jpg, .jpeg or .webp.
        comparison: Also written, three times as wide: source pixels repeated | bicubic | result. None: not.
        tile: See `sisr.inference.tiled.upscale`.
        halo: See `sisr.inference.tiled.upscale`.
        saving: How JPEG and WebP are compressed.
        begin: Called before the work; what its context gives is called `num_passes` times.

    Raises:
        DataError: The source can't be read, or the target's format can't hold the result.
        OutOfMemoryError: A tile is too large.
    """
    picture = decode_with_alpha(source)
    enlargement = Enlargement(generator, picture, tile, halo)
    width, height, channels = enlargement.width, enlargement.height, enlargement.channels
    check(target, width, height, channels)
    if comparison:
        check(comparison, 3 * width, height, channels)
    with _memory_errors(source), begin(enlargement) as on_pass, ExitStack() as files:
        result = files.enter_context(written(target, width, height, channels, icc=picture.icc, saving=saving))
        beside = comparison and files.enter_context(
            written(comparison, 3 * width, height, channels, icc=picture.icc, saving=saving)
        )
        for strip in enlargement.strips(on_pass):
            result.write(strip.pixels)
            if beside:
                beside.write(enlargement.beside(strip))
    return Enlarged(width, height, _notes(picture))


def enlarge_bytes(
    generator: Generator, data: bytes, suffix: str, *, saving: Saving = SAVING, max_pixels: int = MAX_PIXELS
) -> tuple[bytes, Enlarged]:
    """Return the content of an image file enlarged as `enlarge` does, again as a file's content.

    Args:
        generator: See `sisr.inference.tiled.upscale`.
        data: PNG, JPEG, WebP, BMP or TIFF.
        suffix: .png, .jpg or .webp: the format to return.
        saving: How JPEG and WebP are compressed.
        max_pixels: What the picture may have at most; one with more is refused before it is decoded.

    Raises:
        DataError: The content can't be read, or the format can't hold the result.
        OutOfMemoryError: A tile is too large.
    """
    picture = decode_with_alpha(data, max_pixels=max_pixels)
    enlargement = Enlargement(generator, picture)
    width, height, channels = enlargement.width, enlargement.height, enlargement.channels
    check(Path(f"the result as {suffix}"), width, height, channels)
    file = io.BytesIO()
    with (
        _memory_errors(f"{width}x{height} px"),
        encoded(file, suffix, width, height, channels, icc=picture.icc, saving=saving) as result,
    ):
        for strip in enlargement.strips():
            result.write(strip.pixels)
    return file.getvalue(), Enlarged(width, height, _notes(picture))


def _notes(picture: Picture) -> tuple[str, ...]:
    return tuple(note for note in picture.notes if note != "transparency flattened")


@contextmanager
def _memory_errors(path: Path | str) -> Iterator[None]:
    """Turn a lack of memory into an error that says what to do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch has its own type for devices only
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        raise OutOfMemoryError(f"{path}: out of memory; try smaller tiles, such as --tile 128") from error
    finally:
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
