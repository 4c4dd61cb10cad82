import io
import json
import math
import threading
import time

import pytest

from sisr.terminal import console


def test_json_on_stdout_is_one_document_without_nan(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_json({"psnr": math.inf, "rows": [1, math.nan, (2.5, "é")], "none": None})
    assert json.loads(capsys.readouterr().out) == {"psnr": None, "rows": [1, None, [2.5, "é"]], "none": None}


def test_json_says_file_names_that_are_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    strict = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    monkeypatch.setattr("sys.stdout", strict)
    console.print_json({"name": "\udcff.png", "psnr": "é"})
    assert json.loads(strict.buffer.getvalue()) == {"name": "\udcff.png", "psnr": "é"}


def test_a_table_in_a_pipe_is_as_wide_as_its_cells(capsys: pytest.CaptureFixture[str]) -> None:
    console.table("", ("name", "count", "text"), [("a", 1234567, "x" * 300), ("[b]", None, "y")])
    shown = capsys.readouterr().out
    assert "1,234,567" in shown
    assert "x" * 300 in shown
    assert "[b]" in shown


def test_no_name_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    name = "\x1b]0;owned\x07\x9b2J.png"
    console.table("", ("name",), [(name,)])
    console.out.print(name, markup=False)
    console.err.print(name, markup=False)
    with console.progress("packing", 1) as advance:
        advance(note=name)
    console.print_json({"name": name})
    out, err = capsys.readouterr()
    assert {c for c in out + err if not c.isprintable()} == {"\n"}
    assert json.loads(out[out.index("{") :]) == {"name": name}


def test_progress_in_a_pipe_is_a_line_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress("packing", 3) as advance:
        for i in range(3):
            advance(note=f"file {i}")
    assert capsys.readouterr() == ("", "packing: 3/3 file 2\n")


def test_progress_in_a_pipe_speaks_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 60.0, 90.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with console.progress("packing", 3) as advance:
        advance(2)
        advance()
    assert capsys.readouterr().err.splitlines() == ["packing: 2/3, about 30 s left", "packing: 3/3"]


def test_progress_lets_errors_through() -> None:
    with pytest.raises(ZeroDivisionError), console.progress("packing", 3):
        raise ZeroDivisionError


def test_a_stage_is_announced_only_where_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    said, heard = list[str](), threading.Event()

    def note(message: str) -> None:
        said.append(message)
        heard.set()

    monkeypatch.setattr(console, "note", note)
    with console.stage("quick"):
        pass
    monkeypatch.setattr(console, "SAID_AFTER_S", 0.0)
    with console.stage("starting Ray"):
        assert heard.wait(60)
    assert said == ["starting Ray ..."]
