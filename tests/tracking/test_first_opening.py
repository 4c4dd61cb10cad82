"""A SQLite file of MLflow that several processes of ours open at once."""

import subprocess
import sys
from pathlib import Path

import pytest

from sisr.tracking import address

# Imported once, opened by four at the same moment.
OPEN_AT_ONCE = """
import os, sys, time
from sisr.tracking import store
import mlflow.store.tracking.sqlalchemy_store, mlflow.store.model_registry.sqlalchemy_store
begin = time.time() + 0.2
children = []
for number in range(4):
    children.append(os.fork())
    if children[-1] == 0:
        time.sleep(max(0.0, begin - time.time()))
        store.client(sys.argv[1]).create_experiment(f"experiment {number}")
        os._exit(0)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
print(codes, sorted(one.name for one in store.client(sys.argv[1]).search_experiments()))
"""


@pytest.mark.mlflow
@pytest.mark.slow
def test_processes_that_open_a_new_database_at_once_find_all_of_its_tables(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OPEN_AT_ONCE, address.default_uri(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    names = ["Default", *(f"experiment {number}" for number in range(4))]
    assert done.stdout.strip() == f"{[0] * 4} {names}", done.stderr[-2000:]
