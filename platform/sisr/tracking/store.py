"""A client of an MLflow store; a SQLite file that was moved or copied with its artifacts is corrected before.

MLflow writes absolute artifact addresses into its database. After `mv A B` it would read from `A`, and make it anew.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from sisr.disk import lock
from sisr.errors import DiskError, RunLockedError
from sisr.tracking import address

if TYPE_CHECKING:
    from mlflow import MlflowClient

# The columns of MLflow's database that hold an artifact's address.
COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
LOCK_TIMEOUT_S = 30.0


def client(tracking_uri: str) -> "MlflowClient":
    """Return a client of a server or database, of its runs and its registry alike."""
    address.export()
    from mlflow import MlflowClient
    from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

    rebase(tracking_uri)
    # MLflow keeps for the whole process, by run id alone, where files are: for a copied store that is the original.
    _artifact_repos_cache.clear()
    with _alone(tracking_uri):
        return MlflowClient(tracking_uri, registry_uri=tracking_uri)


@contextmanager
def _alone(tracking_uri: str) -> Iterator[None]:
    """Let no other process of ours open a SQLite file in the block: at its first opening MLflow makes its tables.

    It locks nothing there, and two that do so at once break each other's migrations. Where no lock can be written, no
    tables can be made either.
    """
    file = address.database(tracking_uri)
    with ExitStack() as stack:
        if file is not None and file.parent.is_dir():
            with suppress(DiskError, RunLockedError):
                stack.enter_context(lock.held(file.with_name(f".{file.name}.lock"), wait_s=LOCK_TIMEOUT_S))
        yield


def rebase(tracking_uri: str) -> None:
    """Let a SQLite file keep its artifacts beside it, where a folder `mlartifacts` elsewhere stands in it."""
    file, here = address.database(tracking_uri), address.artifact_location(tracking_uri)
    if file is None or here is None or not file.is_file():
        return
    with closing(sqlite3.connect(file, timeout=LOCK_TIMEOUT_S)) as database:
        if _elsewhere(database, here):  # looked at without a lock, since that is the rule
            with database:
                database.execute("BEGIN IMMEDIATE")
                for old in _elsewhere(database, here):
                    for table, column in COLUMNS:
                        _replace(database, table, column, old, here)
                    before, now = (str(Path(unquote(urlsplit(uri).path)).parent) for uri in (old, here))
                    _replace(database, "tags", "value", before, now, "AND key = 'sisr.folder'")


def _elsewhere(database: sqlite3.Connection, here: str) -> list[str]:
    if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchone():
        return []  # MLflow has not made its tables yet
    found = database.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
    folder = "/" + here.rpartition("/")[2]
    return [old for (old,) in found if old and old.startswith("file:///") and old.endswith(folder) and old != here]


def _replace(database: sqlite3.Connection, table: str, column: str, old: str, new: str, only: str = "") -> None:
    """Put `new` for `old` where that is the beginning of a path, in whole parts."""
    database.execute(
        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
        f"WHERE ({column} = ? OR substr({column}, 1, ?) = ?) {only}",
        (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
    )
