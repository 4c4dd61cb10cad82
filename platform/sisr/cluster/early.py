"""Ray is started while the driver imports torch and reads the images."""

import signal
import sys
import threading
from concurrent.futures import Future

from sisr.cluster import connection


def begin(address: str | None) -> None:
    """Let a thread do what `connection.connect` will be asked for; what it raises is raised there."""
    connection.prepare_environment()
    if signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, signal.SIG_IGN):  # else Ray would be left behind
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    ready = connection.begun[address] = Future()

    def work() -> None:
        try:
            ready.set_result(connection.new(address))
        except BaseException as error:  # handed to whoever needs the connection
            ready.set_exception(error)
        threading.Event().wait()  # for ever: Linux ends Ray's processes with the thread that has started them

    threading.Thread(target=work, name="ray-start", daemon=True).start()
