"""Signals that end a command by an exception, whatever others do with them; in an import they end the process.

In an import an exception may be dropped, by C code that tries an import, as torch does with NumPy, or by Python in the
callbacks of its import locks; or it aborts the process, in C++.
"""

import ctypes
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

OF_DRIVER = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # what may reach every process of a command
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


def leave_to_driver() -> None:
    """Ignore in this process, which works for a driver, what the driver turns into a request to stop."""
    for number in OF_DRIVER:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def kept(number: signal.Signals) -> Iterator[None]:
    """Leave a signal to whom it belongs before the block, in which Ray takes it.

    In the main thread its Python ends the driver, without a checkpoint. In any thread its C++ prints a stack, calls
    Python's handler, and has set an alarm, which aborts the process after 3 s.
    """
    in_main, ours = threading.current_thread() is threading.main_thread(), signal.getsignal(number)
    libc, action = ctypes.CDLL(None), ctypes.create_string_buffer(512)  # more than any system's `struct sigaction`
    libc.sigaction(number, None, action)
    alarm = signal.getitimer(signal.ITIMER_REAL)
    try:
        yield
    finally:
        if in_main:
            signal.signal(number, ours)
        libc.sigaction(number, action, None)
        signal.setitimer(signal.ITIMER_REAL, *alarm)


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
