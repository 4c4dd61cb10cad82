"""What takes seconds of MLflow and is not what a test looks at: processes that deliver, and databases made anew."""

import sqlite3
import threading
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sisr.tracking import address, courier


@pytest.fixture
def no_courier(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs be executed without the process that delivers to MLflow: their outboxes stay as they are."""
    leave_out_courier(monkeypatch)


def leave_out_courier(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(courier, "start", lambda folder, *_: SimpleNamespace(finish=lambda _: courier.standing(folder)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("mlflow"):
        copy_tables()


def new_database(folder: Path) -> str:
    """Return the address of the embedded store in a folder, with MLflow's tables in it."""
    import sqlalchemy

    uri = address.default_uri(folder)
    engine = sqlalchemy.create_engine(uri)
    copy_tables()(engine)
    engine.dispose()
    return uri


@cache
def copy_tables() -> Any:
    """Let MLflow copy its tables into a new SQLite file, where by itself it takes two seconds for its migrations.

    Returns the function that fills the database of an SQLAlchemy engine.
    """
    from mlflow.store.db import utils
    from mlflow.store.model_registry import sqlalchemy_store

    migrate, lock = utils._initialize_tables, threading.Lock()
    template = sqlite3.connect(":memory:", check_same_thread=False)

    def fill(engine: Any) -> None:
        with lock:
            is_first = not template.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if is_first:
                migrate(engine)
            connection = engine.raw_connection()
            file = connection.driver_connection
            if is_first:
                file.backup(template)
            else:
                template.backup(file)
            connection.close()

    utils._initialize_tables = sqlalchemy_store._initialize_tables = fill
    return fill
