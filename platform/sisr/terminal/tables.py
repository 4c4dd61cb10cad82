"""How wide the columns of a table are, so that a narrow terminal breaks lines between words, not inside of them."""

from collections.abc import Sequence

BORDERS = 3  # characters beside each column; one more ends the line
LONGEST = 26  # characters; longer words, such as paths, may be broken

Cells = Sequence[Sequence[str]]  # rows of equal length, the titles first; cells may have several lines


def natural(cells: Cells) -> list[int]:
    """Return the widths of the columns without any line broken."""
    return [max(len(line) for cell in column for line in cell.split("\n")) for column in zip(*cells, strict=True)]


def fitted(cells: Cells, available: int) -> list[int] | None:
    """Return the widths of the columns in `available` characters; None where words would have to be broken.

    What is left when every column holds its longest word goes to the columns that need little more first.
    """
    wide = natural(cells)
    words = [
        max((len(word) for cell in column for word in cell.split()), default=0) for column in zip(*cells, strict=True)
    ]
    found = [min(word, LONGEST) for word in words]
    left = available - 1 - sum(width + BORDERS for width in found)
    if left < 0:
        return None
    order = sorted(range(len(found)), key=lambda i: wide[i] - found[i])
    for place, i in enumerate(order):
        more = min(wide[i] - found[i], left // (len(order) - place))
        found[i] += more
        left -= more
    return found


def turned(cells: Cells) -> list[list[str]]:
    """Return the same with rows as columns."""
    return [list(column) for column in zip(*cells, strict=True)]
