"""A folder of images, searched to the bottom."""

import os
from collections.abc import Iterator
from pathlib import Path

from sisr.data.formats import OTHER_SUFFIXES, SUFFIXES
from sisr.data.sources import ImageFile, Source, by_name, hold_out
from sisr.errors import DataError


def open_layout(folder: Path) -> Source:
    """Return the images of a folder, of which some are held out.

    Raises:
        DataError: There is none.
    """
    return Source(folder.resolve().name, *hold_out(find_images(folder)))


def find_images(folder: Path, links: bool = False) -> list[ImageFile]:
    """Return all image files below a folder, sorted by name; what can't be followed or read is in it as refused.

    Files are taken by their suffix, hidden ones left out. A link to a folder is followed unless that folder was seen
    already (so that loops end); a link that leaves the folder is refused, unless `links` is asked for.

    Raises:
        DataError: There is no image file.
    """
    root = os.path.realpath(folder)
    files = sorted(_walk(root, root, set(), links), key=by_name)
    if not files:
        raise DataError(f"{folder} holds no image file; these are read: {', '.join(sorted(SUFFIXES))}")
    return files


def _walk(folder: str, root: str, seen: set[tuple[int, int]], links: bool) -> Iterator[ImageFile]:
    try:
        found = os.stat(folder)
        # Links last, so that a folder is found by its own name first.
        entries = sorted(os.scandir(folder), key=lambda entry: (entry.is_symlink(), entry.name))
    except OSError as error:
        yield _file(folder, root, ("unreadable", error.strerror or str(error)))
        return
    if (found.st_dev, found.st_ino) in seen:
        return
    seen.add((found.st_dev, found.st_ino))
    for entry in entries:
        is_image = os.path.splitext(entry.name)[1].lower() in SUFFIXES | OTHER_SUFFIXES
        if entry.name.startswith("."):
            continue
        reason = _refusal(entry.path, root, links) if entry.is_symlink() else None
        if reason is None and os.path.isdir(entry.path):
            yield from _walk(entry.path, root, seen, links)
        elif is_image or (reason and os.path.isdir(entry.path)):
            yield _file(entry.path, root, reason)


def _refusal(link: str, root: str, links: bool) -> tuple[str, str] | None:
    """Return why a link is not followed, if so."""
    try:
        target = os.path.realpath(link, strict=True)
    except OSError as error:
        return "link", error.strerror or str(error)
    return (
        None if links or os.path.commonpath([target, root]) == root else ("link", "it leaves the folder of the source")
    )


def _file(path: str, root: str, refused: tuple[str, str] | None) -> ImageFile:
    return ImageFile(Path(path), path[len(os.path.join(root, "")) :] or ".", refused)
