"""Where images come from: `demo`, a folder, `celeba:PATH` or `div2k:PATH`.

Every source is split into images to train on and images held out. Where the source has no split of its own, the held
out ones are chosen by their names alone: every run, whatever its seed, holds out the same ones, and a file added to
the folder moves hardly any other.
"""

import difflib
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sisr.data.formats import OTHER_SUFFIXES, SUFFIXES
from sisr.data.reading import ImageFile
from sisr.errors import DataError

HELD_OUT = 16  # at most; and at most a tenth, but at least one

# scikit-image's bundled photographs; every other picture of it is a drawing, a plot or a mask.
DEMO_TRAIN = (
    "brick.png",
    "camera.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "ihc.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "page.png",
    "rocket.jpg",
)
DEMO_HELD_OUT = ("astronaut.png", "chelsea.png", "coffee.png")


@dataclass(frozen=True)
class Source:
    """The files of a source, before anything is known of their content."""

    name: str
    train: list[ImageFile]
    validation: list[ImageFile]

    @property
    def files(self) -> list[ImageFile]:
        """All files: what to pack."""
        return [*self.train, *self.validation]


def open_source(spec: str, validation: str | None = None) -> Source:
    """Return the files that `spec` names.

    Args:
        spec: `demo`; a folder, searched recursively; `celeba:PATH`, where PATH holds `img_align_celeba` and perhaps
            `list_eval_partition.txt`; `div2k:PATH`, where PATH holds `DIV2K_train_HR` and perhaps `DIV2K_valid_HR`.
        validation: A folder of images to hold out instead of some of the source's own; it may lie inside the source.

    Raises:
        DataError: There is no such source, or it has too few images.
    """
    kind, colon, path = spec.partition(":")
    if spec == "demo":
        source = _demo()
    elif colon and kind in _LAYOUTS:
        source = _LAYOUTS[kind](_folder(path))
    elif spec and Path(spec).is_dir():  # an empty path, such as an unset variable's, would be the current folder
        source = Source(Path(spec).resolve().name, *hold_out(find_images(_folder(spec))))
    else:
        raise DataError(_no_source(spec, kind if colon else ""))
    if validation is not None:
        source = _with_validation(source, find_images(_folder(validation)), keeps_split=spec == "demo" or bool(colon))
    for part, files in (("train on", source.train), ("hold out", source.validation)):
        if not files:
            count = len(source.files)
            found = f"{count} image{' is' if count == 1 else 's are'} too few"
            raise DataError(f"{spec}: {found}: there is none to {part}")
    return source


def _with_validation(source: Source, held: Sequence[ImageFile], *, keeps_split: bool) -> Source:
    """Return the source validated on `held`; what it held out itself is trained on unless its publisher chose it."""
    paths = {file.path for file in held}
    train = [file for file in (source.train if keeps_split else source.files) if file.path not in paths]
    named = [ImageFile(file.path, f"validation/{file.name}", file.refused) for file in held]
    return Source(source.name, sorted(train, key=_by_name), named)


def absolute(spec: str) -> str:
    """Return a source's name that means the same in every folder that a process may work in."""
    kind, colon, path = spec.partition(":")
    if spec == "demo":
        return spec
    if colon and kind in _LAYOUTS:
        return f"{kind}:{Path(path).expanduser().absolute()}"
    return str(Path(spec).expanduser().absolute())


def find_images(folder: Path) -> list[ImageFile]:
    """Return all image files below a folder, sorted by name; what can't be followed or read is in it as refused.

    Files are taken by their suffix, hidden ones left out. A link to a folder is followed unless that folder was seen
    already (so that loops end); a link that leaves the folder is refused.

    Raises:
        DataError: There is no image file.
    """
    root = os.path.realpath(folder)
    files = sorted(_walk(root, root, set()), key=_by_name)
    if not files:
        wanted = ", ".join(sorted(SUFFIXES))
        raise DataError(f"{folder} holds no image file (wanted: {wanted})")
    return files


def hold_out(files: Sequence[ImageFile]) -> tuple[list[ImageFile], list[ImageFile]]:
    """Return the files to train on and the files held out, both sorted by name.

    The held-out ones are the last 16, or the last tenth where that is less, of the files shuffled by a hash of their
    names; at least one.
    """
    held = _draw(files, min(HELD_OUT, max(1, len(files) // 10)))
    names = {file.name for file in held}
    return sorted((file for file in files if file.name not in names), key=_by_name), held


def _draw(files: Sequence[ImageFile], count: int) -> list[ImageFile]:
    return sorted(sorted(files, key=_lot)[-count:], key=_by_name)


def _by_name(file: ImageFile) -> str:
    return file.name


def _lot(file: ImageFile) -> bytes:
    return hashlib.sha256(b"held out/" + file.name.encode("utf-8", "surrogateescape")).digest()


def _walk(folder: str, root: str, seen: set[tuple[int, int]]) -> Iterator[ImageFile]:
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
        reason = _refusal(entry.path, root) if entry.is_symlink() else None
        if reason is None and os.path.isdir(entry.path):
            yield from _walk(entry.path, root, seen)
        elif is_image or (reason and os.path.isdir(entry.path)):
            yield _file(entry.path, root, reason)


def _refusal(link: str, root: str) -> tuple[str, str] | None:
    """Return why a link is not followed, if so."""
    try:
        target = os.path.realpath(link, strict=True)
    except OSError as error:
        return "link", error.strerror or str(error)
    return None if os.path.commonpath([target, root]) == root else ("link", "it leaves the folder of the source")


def _file(path: str, root: str, refused: tuple[str, str] | None) -> ImageFile:
    return ImageFile(Path(path), path[len(os.path.join(root, "")) :] or ".", refused)


def _folder(path: str) -> Path:
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise DataError(f"{path} is {'not a folder' if folder.exists() else 'not there'}; wanted a folder of images")
    return folder


def _demo() -> Source:
    package = find_spec("skimage")
    if package is None or package.origin is None:
        raise DataError("the demo's photographs come with scikit-image: pip install scikit-image")
    folder = Path(package.origin).resolve().parent / "data"
    train, held = ([ImageFile(folder / name, name) for name in names] for names in (DEMO_TRAIN, DEMO_HELD_OUT))
    missing = [file.name for file in (*train, *held) if not file.path.is_file()]
    if missing:
        raise DataError(f"scikit-image in {folder} lacks {', '.join(missing)}: install the version in constraints.txt")
    return Source("demo", train, held)


def _celeba(folder: Path) -> Source:
    images = _first(folder, ("img_align_celeba/img_align_celeba", "img_align_celeba", "celeba/img_align_celeba", "."))
    files = find_images(images)
    lists = [p / f"list_eval_partition.{end}" for p in (images, *images.parents[:2]) for end in ("txt", "csv")]
    partition = next((path for path in lists if path.is_file()), None)
    if partition is None:
        return Source("celeba", *hold_out(files))
    parts = _partition(partition)
    unlisted = [file.name for file in files if file.name not in parts]
    if unlisted:
        raise DataError(f"{partition} does not list {unlisted[0]} ({len(unlisted)} images in all)")
    held = _draw([file for file in files if parts[file.name] == 1], HELD_OUT)
    return Source("celeba", [file for file in files if parts[file.name] == 0], held)


def _partition(path: Path) -> dict[str, int]:
    """Return which part (0 train, 1 validation, 2 test) each file belongs to, as CelebA publishes it."""
    rows = [line.replace(",", " ").split() for line in path.read_text().splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1] in "012"}


def _div2k(folder: Path) -> Source:
    train = find_images(_first(folder, ("DIV2K_train_HR/DIV2K_train_HR", "DIV2K_train_HR", "DIV2K/DIV2K_train_HR")))
    valid = train[0].path.parent.parent / "DIV2K_valid_HR"
    if not valid.is_dir():
        return Source("div2k", *hold_out(train))
    held = [ImageFile(file.path, f"DIV2K_valid_HR/{file.name}", file.refused) for file in find_images(valid)]
    return Source("div2k", train, _draw(held, HELD_OUT))


def _first(folder: Path, layouts: Sequence[str]) -> Path:
    found = next((folder / layout for layout in layouts if (folder / layout).is_dir()), None)
    if found is None:
        raise DataError(f"{folder} holds none of {', '.join(layouts)}")
    return found


def _no_source(spec: str, kind: str) -> str:
    if not spec:
        return "the name of the images is empty. Wanted: demo, a folder of images, celeba:PATH or div2k:PATH"
    if "://" in spec:
        return f"{spec}: packed images at an address can be trained on; here image files are wanted, such as a folder"
    if Path(spec).is_file():
        return f"{spec} is one file. Wanted: demo, a folder of images, celeba:PATH or div2k:PATH"
    near = difflib.get_close_matches(kind.lower() or spec, [*_LAYOUTS, "demo"], n=1)
    hint = f"; did you mean '{near[0]}{spec[len(kind) :] if kind else ''}'?" if near else "."
    return f"no images at '{spec}'{hint} Wanted: demo, a folder of images, celeba:PATH or div2k:PATH"


_LAYOUTS: dict[str, Callable[[Path], Source]] = {"celeba": _celeba, "div2k": _div2k}
