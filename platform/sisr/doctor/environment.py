"""Whether what surrounds a run would stop it: temporary folder, user, proxies and MLflow."""

import os
import pwd
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from sisr.doctor import Diagnosis
from sisr.errors import TrackingError
from sisr.tracking import address, courier
from sisr.tracking.redact import redact_text

LONGEST_SOCKET = 107  # bytes of a path that a socket may have (AF_UNIX)
# What Ray puts below the temporary folder, as long as it gets.
RAY_SOCKET = "ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
ANSWER_S = 2.0  # how long a proxy may take


def examine(runs: Path, tracking_uri: str | None) -> list[Diagnosis]:
    """Return what was found around this process; runs will be written to `runs` and tracked as asked for."""
    return [temporary_folder(), user(), *proxies(), tracking(runs, tracking_uri)]


def temporary_folder() -> Diagnosis:
    """Return whether sockets fit below the temporary folder, and whether it can be written."""
    folder = tempfile.gettempdir()
    length = len(os.fsencode(os.path.join(folder, RAY_SOCKET)))
    if not os.access(folder, os.W_OK):
        return Diagnosis("error", "temporary folder", f"{folder} can't be written", "set TMPDIR to another folder")
    if length > LONGEST_SOCKET:
        found = f"{folder} is too long by {length - LONGEST_SOCKET}: sockets may have {LONGEST_SOCKET} characters"
        return Diagnosis("warning", "temporary folder", found, "set TMPDIR to a short one; Ray's go to /tmp/ray else")
    return Diagnosis("ok", "temporary folder", folder)


def user() -> Diagnosis:
    """Return whether the system knows who we are: in containers a user may have a number only."""
    number = os.getuid()
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:
        found = f"user {number} has no name here (no entry in /etc/passwd)"
        home = os.environ.get("HOME")
        found += f"; HOME is {home}" if home else ", and HOME is not set: caches and tokens go to the temporary folder"
        return Diagnosis("warning", "user", found, "set USER and HOME, such as docker run -e USER=me -e HOME=/work")
    return Diagnosis("ok", "user", f"{name} ({number})")


def proxies() -> Iterator[Diagnosis]:
    """Yield whether the proxies that the environment names answer."""
    for name in PROXIES:
        given = os.environ.get(name) or os.environ.get(name.upper())
        if not given:
            continue
        place = urlsplit(given if "://" in given else f"http://{given}")
        try:
            socket.create_connection((place.hostname or "", place.port or 80), ANSWER_S).close()
        except (OSError, ValueError) as error:
            found = f"nothing answers at {redact_text(given)}: {error}"
            yield Diagnosis("error", name, found, "unset it, or name in no_proxy the addresses that need no proxy")
        else:
            yield Diagnosis("ok", name, f"{redact_text(given)} answers")


def tracking(runs: Path, tracking_uri: str | None) -> Diagnosis:
    """Return whether MLflow's server answers; a SQLite file needs none."""
    try:
        place = address.decide(runs / "new", tracking_uri)
        if not place.tracking_uri.startswith("sqlite:"):
            courier.require(place, write=False)
    except TrackingError as error:
        remedy = "start it, or correct MLFLOW_TRACKING_URI; runs start without it"
        return Diagnosis("error", "mlflow", str(error), remedy)
    return Diagnosis("ok", "mlflow", redact_text(place.tracking_uri))
