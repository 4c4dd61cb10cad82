"""The append-only file: what was torn, and a disk that is full when somebody opens it."""

import errno
import os
from pathlib import Path

import pytest

from sisr.disk import journal
from sisr.disk.journal import Journal, rows


def records(path: Path) -> list[dict[str, object] | None]:
    return [row for row, _ in rows(path)]


def test_a_torn_line_is_skipped_and_what_is_written_behind_it_is_not(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"op":"a"}\n{"op":"b')
    written = Journal(path)
    written.append({"op": "c"})
    written.close()
    assert records(path) == [{"op": "a"}, None, {"op": "c"}]


def test_a_torn_journal_can_be_opened_on_a_full_disk_and_is_free_for_others_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "LOCK_PATIENCE_S", 0.1)  # what a lock that was never given back would take
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"op":"a"}\n{"op":"b')

    def full(file: int, line: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(os, "write", full)
        written = Journal(path)
        written.append({"op": "c"})
    written.append({"op": "d"})
    written.close()
    Journal(path).close()
    assert records(path) == [{"op": "a"}, None, {"op": "c"}, {"op": "d"}]
