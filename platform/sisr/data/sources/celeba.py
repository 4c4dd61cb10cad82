"""CelebA as it is published: `img_align_celeba`, and perhaps `list_eval_partition.txt` or `.csv`, which splits it.

Liu et al., "Deep Learning Face Attributes in the Wild", 2015. https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html
"""

from pathlib import Path

from sisr.data.sources import Source, draw, existing_folder, first_folder, hold_out
from sisr.data.sources.folder import find_images
from sisr.errors import DataError

FOLDERS = ("img_align_celeba/img_align_celeba", "img_align_celeba", "celeba/img_align_celeba", ".")
TRAIN, VALIDATION = 0, 1  # the list's numbers; 2: test


def open_layout(place: str) -> Source:
    """Return the faces, split as the list says; without a list, some are held out as of any folder.

    Raises:
        DataError: There are no images, or the list does not name them all.
    """
    images = first_folder(existing_folder(place), FOLDERS)
    files = find_images(images)
    lists = [p / f"list_eval_partition.{end}" for p in (images, *images.parents[:2]) for end in ("txt", "csv")]
    partition = next((path for path in lists if path.is_file()), None)
    if partition is None:
        return Source("celeba", *hold_out(files))
    parts = _read(partition)
    unlisted = [file.name for file in files if file.name not in parts]
    if unlisted:
        raise DataError(f"{partition} does not list {unlisted[0]} ({len(unlisted)} images in all)")
    held = [file for file in files if parts[file.name] == VALIDATION]
    return Source("celeba", [file for file in files if parts[file.name] == TRAIN], draw(held), held)


def _read(path: Path) -> dict[str, int]:
    """Return the part that each file belongs to."""
    rows = [line.replace(",", " ").split() for line in path.read_text().splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1] in "012"}
