"""Signals that end a command by an exception, also in the middle of an import.

There the exception may be dropped: by C code that tries an import, as torch does with NumPy, and by Python itself in
the callbacks of its import locks. So such a signal is sent once more, until the command has heard of it.
"""

import os
import signal
import threading
from types import FrameType

AGAIN_S = 0.2
IMPORT = "<frozen importlib._bootstrap>"  # the file of each frame that imports
_raised: dict[BaseException, threading.Timer] = {}  # what has not arrived yet, and what sends its signal again


def end_on(number: signal.Signals, error: type[BaseException], *reason: object) -> None:
    """Raise `error(*reason)` in the main thread when a signal comes; one that is ignored or handled stays so."""
    if signal.getsignal(number) not in (signal.SIG_DFL, signal.default_int_handler):
        return

    def end(number: int, frame: FrameType | None) -> None:
        raised = error(*reason)
        if _imports(frame):
            again = _raised[raised] = threading.Timer(AGAIN_S, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
        raise raised

    signal.signal(number, end)


def heard(error: BaseException) -> BaseException:
    """Send nothing again, and return why a command ends: by a signal, whatever came of dropping what it raised."""
    found = next(iter(_raised), error)
    while _raised:
        _raised.popitem()[1].cancel()
    return found


def _imports(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == IMPORT:
            return True
        frame = frame.f_back
    return False
