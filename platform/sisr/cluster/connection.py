"""The connection of this process to Ray, its environment, and how its main thread waits for what Ray does."""

import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from sisr.cluster import own_ray
from sisr.disk.cache import home
from sisr.doctor import Diagnosis
from sisr.errors import ConfigError, SisrError
from sisr.terminal import signals
from sisr.terminal.console import note, stage

POLL_S = 0.3
ANSWER_S = 3.0  # how long a Ray may take to answer, once to connect and once to speak
SHORT_TEMP = "/tmp/ray"
# What HTTP/2, and so gRPC, begins with: the client's preface and empty settings. A server that works answers at once.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Else Ray adds 15 to its workers' niceness: beside two busy processes a run took six times as long on two cores.
    "RAY_worker_niceness": "0",
    "RAY_AUTH_MODE": "token",  # on by default for local clusters since 2.59; said aloud, it also silences a warning
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # else one report per 2 s
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "60",  # else a hung worker is noticed after 600 s
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",  # else 5 s of the 30 that some clouds give are lost
    # How long workers wait for the nodes that they were planned for before they are planned anew: after a loss Ray may
    # count on the lost node for some time.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "3",  # else workers that wait for one with an error are ended after 30 s
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # else Serve ends a proxy that needs more than 5 s on a busy machine
    # What Tune reads from the environment and takes in no other way.
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # paths mean the same in a trial as outside
    "RAY_AIR_NEW_OUTPUT": "0",  # its tables, which would come between ours
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the driver's own asks all trials to save
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # Tune's own memory is not used
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",
    "RAY_WARN_BLOCKING_GET_INSIDE_ASYNC": "0",  # as Ray Train sets it for its controller
}

_leaving: list[threading.Thread] = []  # ends of connections that are under way
begun: dict[str | None, Future[Any]] = {}  # connections that are being made, by address; see `cluster.early`


def prepare_environment() -> None:
    """Set what Ray's processes must find before Ray is imported; what is set already stays.

    Besides, give Ray a token that only this user can read.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    _private_token()


def _private_token() -> None:
    """Make Ray's token file with mode 0600; Ray itself would write it readable for every local user."""
    given = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if given or os.environ["RAY_AUTH_MODE"] != "token":
        return
    try:
        path = home() / ".ray" / "auth_token"
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    except FileExistsError:
        if path.stat().st_mode & 0o077 and path.stat().st_uid == os.getuid():
            path.chmod(0o600)
    except OSError:
        # No home, or none to write to, as in many containers: a token for this process and its children.
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def connect(address: str | None) -> Any:
    """Return the module `ray`, connected: as it is already, to a cluster, or to one of its own on this machine.

    Args:
        address: Of the cluster; "local": one of its own; None: what RAY_ADDRESS says, as in a submitted job, else the
            one that `ray start` has begun on this machine, else one of its own.

    Raises:
        ConfigError: There is an address, and no Ray answers there or it refuses us.
        SisrError: One of its own does not start.
    """
    early = begun.pop(address, None)
    with stage("starting Ray, or joining the one that runs"):
        return early.result() if early else new(address)


def new(address: str | None) -> Any:
    """Do what `connect` does, now."""
    prepare_environment()
    import ray

    while _leaving:
        _leaving.pop().join()
    if ray.is_initialized():
        return ray
    logging.getLogger("ray").setLevel(logging.ERROR)
    found, origin = _find(address)
    options: dict[str, Any] = {"address": found or "local"}
    own_ray.mark(not found)
    if found:
        _probe(found, origin)
    else:
        options["include_dashboard"] = False  # whoever wants it uses `ray start --head`
        if short := short_temp():
            options["_temp_dir"] = short
    try:
        with own_ray.started_for_us(), signals.kept(signal.SIGTERM):
            ray.init(**options, log_to_driver=False, logging_level=logging.ERROR, configure_logging=True)
    except Exception as error:  # Ray's own `Exception` says that a process of its did not start within 30 s
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if not found:
            raise SisrError(
                f"Ray did not start on this machine: {reason} If other programs keep it busy, try the same command "
                "again later; `sisr train --local` needs no Ray"
            ) from error
        raise ConfigError(
            f"the Ray at {found} ({origin}) does not let us in: {reason}; --address local starts another one"
        ) from error
    return ray


def alone(address: str | None) -> bool:
    """Return whether `connect` would start a Ray of its own, on this machine alone; raise ConfigError as it would."""
    return not _find(address)[0]


def _find(address: str | None) -> tuple[str, str]:
    """Return the address of the Ray to connect to and what names it; empty where one is to be started."""
    from ray._common.utils import get_ray_address_file
    from ray._private import services

    variable = os.environ.get("RAY_ADDRESS", "")
    stated, origin = (variable, "RAY_ADDRESS") if address in (None, "auto") and variable else (address, "--address")
    if stated and stated != "auto":
        return ("", "") if stated == "local" else (stated, f"from {origin}")
    services.find_gcs_addresses.cache_clear()
    try:
        found = services.get_ray_address_from_environment(stated, None)
    except ConnectionError:
        raise ConfigError(
            f"{origin} is auto, which wants a Ray that runs on this machine, and none does: start one with "
            "`ray start --head`, or let this command start its own with --address local"
        ) from None
    return (found, f"from {get_ray_address_file(None)}") if found else ("", "")


def _probe(address: str, origin: str) -> None:
    """Raise ConfigError where no Ray answers within seconds: Ray itself would try for ten minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        raise ConfigError(f"{address} ({origin}) is no address of a Ray: HOST:PORT, such as 10.0.0.1:6379, or local")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), ANSWER_S) as line:
            line.settimeout(ANSWER_S)
            line.sendall(PREFACE)
            if line.recv(1):
                return
        reason = "what listens there closes the connection"
    except OSError as error:
        reason = f"no answer within {ANSWER_S:g} s" if isinstance(error, TimeoutError) else error.strerror or str(error)
    remedies = {"from RAY_ADDRESS": "correct or unset RAY_ADDRESS", "from --address": "correct --address"}
    remedy = remedies.get(origin, "`ray stop` removes that file where its Ray has ended")
    raise ConfigError(
        f"no Ray answers at {address} ({origin}): {reason}. Start it, {remedy}; --address local starts one of its own"
    )


def examine() -> Diagnosis:
    """Return whether the Ray that a command would find answers, as `sisr doctor` shows it."""
    try:
        found, origin = _find(None)
        if found:
            _probe(found, origin)
    except ConfigError as error:
        return Diagnosis("error", "ray", str(error), "start that Ray, or remove what names it")
    return Diagnosis("ok", "ray", f"{found} ({origin}) answers" if found else "each command starts its own")


def short_temp() -> str:
    """Return where Ray's sockets go instead if the temporary directory's path is too long for them; else nothing."""
    from ray._common.utils import get_default_ray_temp_dir

    longest = f"{get_default_ray_temp_dir()}/session_2000-01-01_00-00-00_000000_{os.getpid()}/sockets/plasma_store"
    if len(os.fsencode(longest)) < 104:  # bytes, with some left for a number: AF_UNIX takes 107
        return ""
    note(f"the temporary directory's path is too long for Ray's sockets: they go to {SHORT_TEMP}")
    return SHORT_TEMP


def shutdown() -> None:
    """End a Ray that `connect` started, and leave one that it found; do nothing where there is none."""
    ray = sys.modules.get(
        "ray"
    )  # if nobody has connected: imported before its environment is set, it would ignore that
    if ray and ray.is_initialized():
        ray.shutdown()
    own_ray.mark(False)


def leave() -> None:
    """Let a thread do what `shutdown` does, for which the process waits at its end, and `new` before it connects."""
    _leaving.append(threading.Thread(target=shutdown, name="ray-end"))
    _leaving[-1].start()


def in_thread(work: Callable[[], Any], tick: Callable[[], None]) -> Any:
    """Return what `work` returns; it is called in a thread, and `tick` in this one several times a second meanwhile.

    Ray Train and Tune replace the signal handlers of the thread that calls them, if that is the main one.
    """
    outcome: list[Any] = []

    def call() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # handed to the caller's thread
            outcome.append(error)

    thread = threading.Thread(target=call, name="ray-work", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL_S)
        tick()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]
