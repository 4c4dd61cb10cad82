"""Ray is started while the driver imports torch and reads the images."""

import signal
import threading
from concurrent.futures import Future

from sisr.cluster import connection
from sisr.terminal import signals


def begin(address: str | None) -> None:
    """Let a thread do what `connection.connect` will be asked for; what it raises is raised there."""
    connection.prepare_environment()
    signals.end_on(signal.SIGTERM, SystemExit, 128 + signal.SIGTERM)  # else Ray's processes would be left behind
    ready = connection.begun[address] = Future()

    def work() -> None:
        try:
            ready.set_result(connection.new(address))
        except BaseException as error:  # handed to whoever needs the connection
            ready.set_exception(error)
        threading.Event().wait()  # for ever: Linux ends Ray's processes with the thread that has started them

    threading.Thread(target=work, name="ray-start", daemon=True).start()
