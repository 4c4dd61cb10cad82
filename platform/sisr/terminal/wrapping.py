"""Lines of prose that a narrow terminal breaks between words, not inside of them."""

import textwrap


def wrapped(message: str, width: int, hanging: int = 2) -> str:
    """Return the message's lines in as many of `width` characters as they need.

    What is copied, such as a path, stays whole and gets no hyphen. Further lines of one that was broken begin `hanging`
    characters behind its own indentation.
    """
    return "\n".join(line if len(line) <= width else _filled(line, width, hanging) for line in message.split("\n"))


def _filled(line: str, width: int, hanging: int) -> str:
    indent = " " * (len(line) - len(line.lstrip()) + hanging)
    return textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
