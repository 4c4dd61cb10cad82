"""Signals that end a command by an exception; in an import they end the process.

There an exception may be dropped, by C code that tries an import, as torch does with NumPy, or by Python in the
callbacks of its import locks; or it aborts the process, in C++.
"""

import os
import signal
from contextlib import suppress
from types import FrameType

IMPORT = "<frozen importlib._bootstrap>"  # the file of each frame that imports


def end_on(number: signal.Signals, error: type[BaseException], *reason: object) -> None:
    """Raise `error(*reason)` in the main thread when a signal comes; one that is ignored or handled stays so."""
    if signal.getsignal(number) not in (signal.SIG_DFL, signal.default_int_handler):
        return

    def end(number: int, frame: FrameType | None) -> None:
        if _imports(frame):
            _end_with_children(128 + number)
        raise error(*reason)

    signal.signal(number, end)


def _imports(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == IMPORT:
            return True
        frame = frame.f_back
    return False


def _end_with_children(code: int) -> None:
    """End this process and all that it has started, such as a Ray: what they write survives that."""
    with suppress(Exception):  # psutil itself may be what is imported just now
        import psutil

        for child in psutil.Process().children(recursive=True):
            child.kill()
    with suppress(OSError):
        os.write(2, b"sisr: interrupted\n")
    os._exit(code)
