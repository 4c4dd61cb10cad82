"""What a person or a program reads: results on stdout, everything else on stderr."""

import json
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from sisr.config.wording import printable


class _Console(Console):
    def print(self, *objects: Any, **options: Any) -> None:
        # Control characters in plain texts, other than line ends, are escaped.
        super().print(*(printable(o, keep="\n\t") if isinstance(o, str) else o for o in objects), **options)

    def on_broken_pipe(self) -> None:
        """Let `sisr.terminal.cli` decide what a reader that has seen enough (`head`) means; rich would exit with 1."""
        raise BrokenPipeError


out = _Console(highlight=False, soft_wrap=True)
err = _Console(stderr=True, highlight=False, soft_wrap=True)

PLAIN_EVERY_S = 5.0  # between two plain progress lines, so that a log stays short


def note(message: str) -> None:
    """Write a message to stderr as it is; nothing where it is empty."""
    if message:
        err.print(message, markup=False)


def print_json(content: Any) -> None:
    """Write one JSON document to stdout. NaN and infinity, which JSON has no words for, become null."""
    content = finite(content)
    text = json.dumps(content, indent=2, ensure_ascii=False, default=str)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
        escaped = printable(text, keep="\n") != text
    except UnicodeEncodeError:  # a file name that is not UTF-8, or an output that knows ASCII only
        escaped = True
    if escaped:  # the same in ASCII
        text = json.dumps(content, indent=2, default=str)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def finite(content: Any) -> Any:
    """Return what JSON is made of, with null for NaN and infinity."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {str(name): finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return content


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table to stdout. Columns whose every cell is a number, or None, are aligned on the right."""
    rows = [list(row) for row in rows]
    built = Table(title=title or None, title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        numeric = bool(rows) and all(row[i] is None or isinstance(row[i], int | float) for row in rows)
        built.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        built.add_row(*(Text(_cell(value)) for value in row))
    # A file or pipe has no width: every cell is on one line there.
    target = out if out.is_terminal else _Console(width=_width(columns, rows, title), highlight=False)
    target.print(built, soft_wrap=False)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return printable(str(value), keep="\n")


def _width(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str) -> int:
    cells = [[*columns], *([_cell(value) for value in row] for row in rows)]
    widest = (max(len(line) for cell in column for line in cell.split("\n")) for column in zip(*cells, strict=True))
    return max(sum(width + 3 for width in widest) + 1, len(title))


def duration(seconds: float | None) -> str:
    """Return a time span such as 2 h 05 min, 3 min 20 s or 12 s."""
    if seconds is None:
        return "?"
    whole = int(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


class Advance(Protocol):
    """Reports progress."""

    def __call__(self, count: int = 1, note: str = "") -> None:
        """Count `count` more as done; `note` is shown behind the numbers."""
        ...


@contextmanager
def progress(description: str, total: int) -> Iterator[Advance]:
    """Show on stderr how far a task is: a bar on a terminal, else a plain line now and then.

    Use as `with progress("packing", len(files)) as advance: ... advance()`.
    """
    if not err.is_terminal:
        yield _plain_lines(description, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}", markup=False), console=err) as bar:
        task = bar.add_task(description, total=total, note="")

        def advance(count: int = 1, note: str = "") -> None:
            bar.update(task, advance=count, note=printable(note))

        yield advance


def _plain_lines(description: str, total: int) -> Advance:
    done, shown_at = 0, time.monotonic()

    def advance(count: int = 1, note: str = "") -> None:
        nonlocal done, shown_at
        done += count
        if done >= total or time.monotonic() - shown_at >= PLAIN_EVERY_S:
            shown_at = time.monotonic()
            err.print(f"{description}: {done}/{total} {note}".rstrip(), markup=False)

    return advance
