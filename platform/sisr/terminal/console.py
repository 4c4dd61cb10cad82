"""What a person or a program reads: results on stdout, everything else on stderr."""

import errno
import json
import math
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from sisr.config.wording import printable
from sisr.terminal import tables
from sisr.terminal.wrapping import wrapped


class _Console(Console):
    def print(self, *objects: Any, **options: Any) -> None:
        # Control characters in plain texts, other than line ends, are escaped.
        super().print(*(printable(o, keep="\n\t") if isinstance(o, str) else o for o in objects), **options)

    def _write_buffer(self) -> None:
        try:
            super()._write_buffer()
        except OSError as error:
            if error.errno != errno.EIO:  # the terminal hung up: what nobody reads ends no run
                raise

    def on_broken_pipe(self) -> None:
        """Let `sisr.terminal.cli` decide what a reader that has seen enough (`head`) means; rich would exit with 1."""
        raise BrokenPipeError


out = _Console(highlight=False, soft_wrap=True)
err = _Console(stderr=True, highlight=False, soft_wrap=True)

PLAIN_WIDTH = 80  # characters of a progress line in a log
PLAIN_EVERY_S = 5.0  # between two plain progress lines, so that a log stays short
DAY_S = 24 * 3600
BAR = " | "
SAID_AFTER_S = 2.0  # what takes longer is announced, and the first progress line comes


def note(message: str) -> None:
    """Write a message to stderr, nothing where it is empty; on a terminal its lines break between words only."""
    if message:
        err.print(wrapped(message, err.width) if err.is_terminal else message, markup=False)


def write(message: str, *, hanging: int = 2) -> None:
    """Write a result to stdout; on a terminal its lines break between words, and go on `hanging` further in."""
    out.print(wrapped(message, out.width, hanging) if out.is_terminal else message, markup=False)


def note_progress(message: str) -> None:
    """Write to stderr how far something is, in lines of `PLAIN_WIDTH` at most where that is no terminal."""
    err.print(wrapped(message, err.width if err.is_terminal else PLAIN_WIDTH), markup=False)


@contextmanager
def stage(description: str) -> Iterator[None]:
    """Say on stderr what is being done, such as "starting Ray", where the block takes longer than `SAID_AFTER_S`."""
    timer = threading.Timer(SAID_AFTER_S, note, (f"{description} ...",))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


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


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, aside: bool = False) -> None:
    """Print a table to stdout, or, if it is said `aside`, to stderr.

    Columns whose every cell is a number, or None, are aligned on the right. A terminal that is too narrow for the
    longest words gets rows as columns, or each row as a table of its own.
    """
    rows = [list(row) for row in rows]
    numeric = [all(row[i] is None or isinstance(row[i], int | float) for row in rows) for i in range(len(columns))]
    cells = [[*columns], *([_cell(value) for value in row] for row in rows)]
    target = err if aside else out
    if not target.is_terminal:  # a file or pipe has no width: every cell is on one line there
        wide = tables.natural(cells)
        width = max(sum(width + tables.BORDERS for width in wide) + 1, len(title))
        target = _Console(width=width, highlight=False, stderr=aside)
        target.print(_built(title, cells, wide, numeric), soft_wrap=False)
    elif widths := tables.fitted(cells, target.width):
        target.print(_built(title, cells, widths, numeric), soft_wrap=False)
    elif rows and (widths := tables.fitted(tables.turned(cells), target.width)):
        target.print(_built(title, tables.turned(cells), widths), soft_wrap=False)
    else:
        for row in cells[1:]:
            target.print(_built(title, tables.turned([cells[0], row])), soft_wrap=False)
            title = ""


def _built(
    title: str, cells: tables.Cells, widths: Sequence[int] | None = None, numeric: Sequence[bool] | None = None
) -> Table:
    built = Table(title=title or None, title_justify="left", title_style="bold")
    for i, column in enumerate(cells[0]):
        width = widths[i] if widths else None
        built.add_column(
            Text(column), justify="right" if numeric and numeric[i] else "left", overflow="fold", width=width
        )
    for row in cells[1:]:
        built.add_row(*map(Text, row))
    return built


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return printable(str(value), keep="\n")


def duration(seconds: float | None) -> str:
    """Return a time span such as 12 days, 2 h 05 min, 3 min 20 s or 12 s."""
    if seconds is None:
        return "?"
    whole = int(seconds)
    if whole >= 3 * DAY_S:
        return f"{whole // DAY_S:,} days"
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def joined(parts: Sequence[str], width: int) -> str:
    """Return parts of a line, divided by bars, in as few lines of at most `width` characters as hold them unbroken."""
    lines = [parts[0]]
    for part in parts[1:]:
        if len(lines[-1]) + len(BAR) + len(part) <= width:
            lines[-1] += BAR + part
        else:
            lines.append(f"  {part}")
    return "\n".join(lines)


class Advance(Protocol):
    """Reports progress."""

    def __call__(self, count: int = 1, note: str = "") -> None:
        """Count `count` more as done; `note` is shown behind the numbers."""
        ...


@contextmanager
def progress(description: str, total: int) -> Iterator[Advance]:
    """Show on stderr how far a task is: a bar on a terminal, else a plain line now and then.

    The bar comes with the first progress: what is done already, as packing of cached images is, shows none.

    Use as `with progress("packing", len(files)) as advance: ... advance()`.
    """
    if not err.is_terminal:
        yield _plain_lines(description, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, TextColumn("{task.fields[note]}", markup=False), console=err)
    task = bar.add_task(description, total=total, note="")
    with ExitStack() as begun:
        begun.enter_context(stage(description))

        def advance(count: int = 1, note: str = "") -> None:
            if not bar.live.is_started:
                begun.close()
                begun.enter_context(bar)
            bar.update(task, advance=count, note=printable(note))

        yield advance


def _plain_lines(description: str, total: int) -> Advance:
    done, began = 0, time.monotonic()
    shown_at = began - max(0.0, PLAIN_EVERY_S - SAID_AFTER_S)

    def advance(count: int = 1, note: str = "") -> None:
        nonlocal done, shown_at
        done, now = done + count, time.monotonic()
        if done >= total or now - shown_at >= PLAIN_EVERY_S:
            shown_at = now
            left = f", about {duration((now - began) / done * (total - done))} left" if 0 < done < total else ""
            note_progress(f"{description}: {done}/{total}{left} {note}".rstrip())

    return advance
