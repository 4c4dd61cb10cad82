"""How a file is cut into objects, whatever its writer does meanwhile."""

import hashlib
import io

import pytest

from sisr.storage.parts import cut
from sisr.storage.snapshot import Entry


def put(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def file(content: bytes) -> io.BytesIO:
    found = io.BytesIO(content)
    found.name = "status.json"
    return found


def test_what_was_appended_to_keeps_its_parts() -> None:
    first = cut(file(b"x" * 90), 90, None, put)
    second = cut(file(b"x" * 90 + b"y" * 10), 100, first, put)
    assert second == Entry(100, put(b"x" * 90 + b"y" * 10), ((put(b"x" * 90), 90), (put(b"y" * 10), 10)))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("known", [None, cut(file(b"x" * 90), 90, None, put)])
def test_a_file_that_has_become_shorter_since_it_was_looked_at_is_left_for_the_next_look(known: Entry | None) -> None:
    with pytest.raises(FileNotFoundError):
        cut(file(b"x" * 50), 90, known, put)
