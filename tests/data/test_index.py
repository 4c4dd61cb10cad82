"""The index: its fingerprint, its limit on bad files, and what it says of changes."""

import json
from dataclasses import replace

import pytest

from sisr.data.images import Verdict
from sisr.data.index import Index, changes, printable
from sisr.errors import DataError

GOOD = Verdict(100, "ab" * 32, "RGB", 40, 30)
BAD = Verdict(0, "", "", 0, 0, "empty file", "0 bytes")


def _index(good: int, bad: int) -> Index:
    files = {f"good{i:04d}.png": GOOD for i in range(good)} | {f"bad{i:04d}.png": BAD for i in range(bad)}
    return Index.of(files.items())


def test_one_bad_file_in_a_hundred_passes() -> None:
    _index(99, 1).check("photos")


def test_more_than_one_in_a_hundred_stops_with_counts_and_the_first_ten() -> None:
    with pytest.raises(DataError) as caught:
        _index(95, 12).check("photos")
    first, *lines = str(caught.value).splitlines()
    assert first == "photos: 12 of 107 image files can't be used, more than 1%: 12 empty file"
    assert lines[:10] == [f"  bad{i:04d}.png: empty file: 0 bytes" for i in range(10)]
    assert lines[10:] == ["  and 2 more", "remove or mend them, or leave them out: --max-bad 0.12"]


def test_a_source_of_only_bad_files_stops_whatever_the_limit() -> None:
    with pytest.raises(DataError, match="1 of 1 image files"):
        _index(0, 1).check("photos", 1.0)


def test_reasons_and_notes_are_counted_most_frequent_first() -> None:
    cut = replace(BAD, kind="truncated")
    grey = replace(GOOD, notes=("L converted",))
    index = Index.of([("a", BAD), ("b", cut), ("c", cut), ("d", grey), ("e", GOOD)])
    assert list(index.reasons().items()) == [("truncated", 2), ("empty file", 1)]
    assert index.notes() == {"L converted": 1}
    assert index.good == ["d", "e"]


@pytest.mark.parametrize(
    "other",
    [
        [("a", GOOD)],
        [("a", GOOD), ("b", replace(GOOD, sha256="cd" * 32))],
        [("a", GOOD), ("c", GOOD)],
        [("a", GOOD), ("b", replace(GOOD, width=41))],
        [("a", GOOD), ("b", replace(GOOD, kind="truncated"))],
    ],
)
def test_any_change_of_files_changes_the_fingerprint(other: list[tuple[str, Verdict]]) -> None:
    assert Index.of(other).fingerprint != Index.of([("a", GOOD), ("b", GOOD)]).fingerprint


def test_the_order_of_listing_does_not_change_the_fingerprint() -> None:
    files = [("b", GOOD), ("a", BAD)]
    assert Index.of(files).fingerprint == Index.of(files[::-1]).fingerprint


def test_an_index_survives_json() -> None:
    index = Index.of([("a", replace(GOOD, notes=("x", "y"))), ("\udcff", BAD)])
    again = Index.from_columns(json.loads(json.dumps(index.to_columns())))
    assert again == index
    assert again.fingerprint == index.fingerprint


def test_changes_are_counted_with_examples() -> None:
    assert changes({"a": "1", "b": "1", "c": "1"}, {"b": "2", "c": "1", "d": "1"}) == "+1 -1 ~1 files, e.g. d, a, b"
    assert changes({"a": "1"}, {"a": "1"}) == ""


def test_names_can_t_steer_a_terminal() -> None:
    assert printable("a\x1b[31m\udcffé.png") == "a\\x1b[31m\\udcffé.png"
