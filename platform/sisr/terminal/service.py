"""What verbs that serve until Ctrl-C have in common."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def until_interrupted() -> Iterator[ExitStack]:
    """Run the block until Ctrl-C or SIGTERM, which end it quietly; then what the given stack holds is called.

    Neither signal breaks that off: an impatient second Ctrl-C must not leave processes behind.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # unwinds like Ctrl-C
    ending = ExitStack()
    try:
        yield ending
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        ending.close()
