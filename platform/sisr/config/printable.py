"""Text that others have chosen, such as file names, made fit for a terminal."""


def printable(text: str, keep: str = "") -> str:
    """Return the text with all escaped that is no text or would steer a terminal, but for characters to keep."""
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )
