"""The connection of this process to Ray, and how its main thread waits for what Ray does."""

import logging
import signal
import threading
from collections.abc import Callable
from typing import Any

from sisr.cluster import environment
from sisr.errors import ConfigError

POLL_S = 0.3


def shutdown() -> None:
    """End a Ray that was started by `fit`; do nothing where there is none."""
    import ray

    if ray.is_initialized():
        ray.shutdown()


def connect(address: str | None) -> Any:
    """Return Ray, connected: as it is already, to `address`, or to a cluster of its own on this machine.

    Raises:
        ConfigError: Nothing answers at `address`.
    """
    environment.prepare()
    import ray

    if not ray.is_initialized():
        # Without an address Ray looks for RAY_ADDRESS, which a submitted job finds set, and else starts here.
        options: dict[str, Any] = {"address": address} if address else {}
        # ray.init puts a handler of its own on SIGTERM, which would end the driver without a checkpoint.
        ours = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(**options, log_to_driver=False, logging_level=logging.ERROR, configure_logging=True)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            if address:
                raise ConfigError(f"no Ray answers at --address {address}: {reason}") from error
            if isinstance(error, ConnectionError):  # it found one that somebody has started
                raise ConfigError(
                    f"a Ray runs here that does not let us in: {reason}; --address local starts another one"
                ) from error
            raise
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, ours)
    return ray


def in_thread(fit: Callable[[], Any], tick: Callable[[], None]) -> Any:
    """Call `fit` in a thread, which would replace the main one's signal handlers, and `tick` in this one meanwhile."""
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append(fit())
        except BaseException as error:  # handed to the caller's thread
            outcome.append(error)

    thread = threading.Thread(target=work, name="ray-train", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL_S)
        tick()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]
