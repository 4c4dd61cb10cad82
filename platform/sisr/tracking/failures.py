"""What goes wrong between us and an MLflow server, in words, and whether trying again may help."""

import os
import re
import sqlite3

import requests
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from sisr.tracking.redact import redact_text

FAILURES = (MlflowException, requests.RequestException, SQLAlchemyError, sqlite3.Error, OSError)

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
# Of what HTTP libraries say of a server that is away: it names the address three times before it names the reason.
_REASONS = (
    r"\[Errno -?\d+\] ([^'\")]+)",
    r"((?:Read|connect\w*|Connection to \S+) timed out)",
    r"Caused by (.+)",
)


class OfflineError(Exception):
    """The server can't be reached, or not by us; later is worth a try."""


class FilesWaitError(OfflineError):
    """The server answers, but does not store a file now; other records may pass."""


class RecordRefusedError(OfflineError):
    """The server will never accept this record."""


def why(error: Exception) -> str:
    """Return in a few words, without secrets, why a server did not do what it was asked for."""
    text = str(error)
    if "Max retries exceeded" in text or "HTTPConnectionPool" in text:
        for form in _REASONS:
            if found := re.search(form, text):
                return redact_text((_proxy() if "ProxyError" in text else "") + found[1].strip()[:200])
    return redact_text(text.strip().splitlines()[0] if text.strip() else repr(error))[:300]


def _proxy() -> str:
    """Return which proxy the environment names, to be put before what is wrong with it."""
    named = [f"{name}={value}" for name, value in os.environ.items() if name.lower() in _PROXIES]
    return f"the proxy of {', '.join(named)} can't be used (no_proxy lists addresses that need none): "


def status_of(error: Exception) -> int:
    """Return HTTP's code for what a server answered; 0 where it did not answer."""
    if isinstance(error, MlflowException):
        return int(error.get_http_status_code())
    return error.response.status_code if isinstance(error, requests.HTTPError) and error.response is not None else 0


def is_refusal(error: Exception) -> bool:
    """Whether the server understood, and will answer the same again."""
    return 400 <= status_of(error) < 500 and status_of(error) not in (401, 403, 407, 408, 429)
