"""How files become objects: which of them belong together, and where one that was appended to is cut."""

import hashlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from sisr.storage.snapshot import Entry

PART = 16 << 20  # bytes of a file that are one object
SMALL = 1 << 20  # bytes; smaller files are committed before larger ones are uploaded


def groups(changed: dict[str, int]) -> Iterator[list[str]]:
    """Yield the paths that become visible together.

    Pictures, which journals name; then what is small, then what is large; then each checkpoint, its manifest last.
    """
    checkpoints: dict[str, list[str]] = {}
    pictures, small, large = [], [], []
    for path in changed:
        parts = path.split("/")
        if "checkpoints" in parts[:-1] or "model" in parts[:-1]:
            checkpoints.setdefault("/".join(parts[:-1]), []).append(path)
        elif "samples" in parts[:-1]:
            pictures.append(path)
        elif changed[path] < SMALL:
            small.append(path)
        else:
            large.append(path)
    yield from [group for group in (pictures, small, *([path] for path in large)) if group]
    for folder in sorted(checkpoints):
        yield sorted(checkpoints[folder], key=lambda path: path.endswith("manifest.json"))


def cut(file: BinaryIO, size: int, known: Entry | None, put: Callable[[bytes], str]) -> Entry:
    """Return what a file's first `size` bytes are made of; `put` uploads the parts that are not there, and names them.

    Args:
        file: At its beginning.
        size: Bytes.
        known: What it was made of before.
        put: Called with a part's content.

    Raises:
        FileNotFoundError: It is shorter than `size` by now.
    """
    parts = kept(file, size, known) if known else []
    file.seek(0)
    sha = hashlib.sha256()
    for _, length in parts:
        sha.update(file.read(length))
    while file.tell() < size:
        content = file.read(min(PART, size - file.tell()))
        if not content:
            raise FileNotFoundError(file.name)
        sha.update(content)
        parts.append((put(content), len(content)))
    return Entry(size, sha.hexdigest(), tuple(parts))


def kept(file: BinaryIO, size: int, known: Entry) -> list[tuple[str, int]]:
    """Return the parts that a file still begins with: of one that was only appended to all but the smallest, else none.

    What was appended becomes a part together with the last ones that are no larger, so that a journal has few parts,
    and a byte of it is uploaded a few times.

    Raises:
        FileNotFoundError: It is shorter than `size` by now.
    """
    if known.bytes > size:
        return []
    sha, left = hashlib.sha256(), known.bytes
    while left:
        chunk = file.read(min(PART, left))
        if not chunk:
            raise FileNotFoundError(file.name)
        sha.update(chunk)
        left -= len(chunk)
    if sha.hexdigest() != known.sha256:
        return []
    parts, appended = [*known.parts], size - known.bytes
    while appended and parts and parts[-1][1] <= appended and appended + parts[-1][1] <= PART:
        appended += parts.pop()[1]
    return parts
