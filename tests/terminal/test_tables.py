"""Tables in narrow terminals: words and numbers stay whole."""

import io
import re

import pytest

from sisr.terminal import console, tables

TITLES = ("model", "verdict", "PSNR-Y (dB)", "SSIM-Y", "parameters", "multiply-adds", "ms/image")
ROWS = [
    ("demo", "reference", "29.46 ± 2.24", "0.8300 ± 0.0434", "134,199", "1.68 G", "1663.4"),
    ("bicubic", "no difference shown", "28.53 ± 2.56\n-0.923 [-2.199, +0.353]", "0.8046 ± 0.0390", "", "", "55.3"),
]


def shown(monkeypatch: pytest.MonkeyPatch, width: int) -> list[str]:
    out = console._Console(file=io.StringIO(), force_terminal=True, width=width, highlight=False, color_system=None)
    monkeypatch.setattr(console, "out", out)
    console.table("3 images", TITLES, ROWS)
    assert isinstance(out.file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;]*m", "", out.file.getvalue()).splitlines()


@pytest.mark.parametrize("width", [200, 120, 80, 60, 45])
def test_no_word_is_broken_and_no_line_is_too_long(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    lines = shown(monkeypatch, width)
    assert max(map(len, lines)) <= width
    words = set(re.split(r"[\s│┃]+", "\n".join(lines)))
    for cell in (*TITLES, *(cell for row in ROWS for cell in row)):
        assert set(cell.split()) <= words


def test_columns_that_need_little_more_get_it_first() -> None:
    assert tables.fitted([["a", "b"], ["one two", "one two three four five"]], 30) == [7, 16]
    assert tables.fitted([["a", "b"], ["one two", "one"]], 80) == [7, 3]
    assert tables.fitted([["a" * 20, "b" * 20]], 40) is None
