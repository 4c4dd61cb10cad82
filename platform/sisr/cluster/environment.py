"""What Ray's processes must find in their environment before Ray is imported."""

import os
import secrets
from collections.abc import Mapping

from sisr.disk.cache import home

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_AUTH_MODE": "token",  # on by default for local clusters since 2.59; said aloud, it also silences a warning
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # else one report per 2 s
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "60",  # else a hung worker is noticed after 600 s
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",  # else 5 s of the 30 that some clouds give are lost
    # How long workers wait for the nodes that they were planned for before they are planned anew: after a loss Ray may
    # count on the lost node for some time.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "3",  # else workers that wait for one with an error are ended after 30 s
    "TUNE_GLOBAL_CHECKPOINT_S": "1",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # else Serve ends a proxy that needs more than 5 s on a busy machine
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}

# Besides, where somebody waits for each answer: Ray starts its workers with nice 15, behind everything else.
PROMPT = {"RAY_worker_niceness": "0"}


def prepare(extra: Mapping[str, str] | None = None) -> None:
    """Set what is not already set, and `extra`, and give Ray a token that only this user can read."""
    for name, value in {**SETTINGS, **(extra or {})}.items():
        os.environ.setdefault(name, value)
    _private_token()


def start_timeout_s() -> float:
    """Return how long Ray Train looks for room for a group of workers before it tries again."""
    return float(os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"])


def _private_token() -> None:
    """Make Ray's token file with mode 0600; Ray itself would write it readable for every local user."""
    if (
        os.environ["RAY_AUTH_MODE"] != "token"
        or os.environ.get("RAY_AUTH_TOKEN")
        or os.environ.get("RAY_AUTH_TOKEN_PATH")
    ):
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
