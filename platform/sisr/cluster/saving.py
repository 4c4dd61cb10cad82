"""A request, from another process, that this worker save a checkpoint at once: Ray is about to take workers away.

Imports no torch: Ray Train's controller, which makes the request, needs none.
"""

import threading

PATIENCE_S = 60.0  # how long a resize waits for a checkpoint; without one the run loses the steps since the last

requested, _saved = threading.Event(), threading.Event()  # a checkpoint, in this process


def save_now() -> bool:
    """Request a checkpoint from this process's training thread, and return whether it was written in time."""
    _saved.clear()
    requested.set()
    return _saved.wait(PATIENCE_S)


def confirm_saved() -> None:
    """Let `save_now` return: a checkpoint was written."""
    requested.clear()
    _saved.set()
