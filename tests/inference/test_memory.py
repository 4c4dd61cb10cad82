"""What becomes of memory that is freed, in a process of its own."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import psutil, torch
from sisr.inference import memory
if sys.argv[1:]:
    memory.PLENTY = int(sys.argv[1]) * 2**30
    memory.keep_freed_where_plenty(torch.get_num_threads())
process = psutil.Process()
tensor = torch.ones(2**26)  # 256 MiB
most = process.memory_info().rss
del tensor
print(most - process.memory_info().rss)
"""


def given_back(*words: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, timeout=300)
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")
def test_what_is_freed_is_kept_for_what_is_taken_next() -> None:
    assert given_back() > 200 * 2**20
    assert given_back("0") < 50 * 2**20


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")
def test_it_is_given_back_where_memory_is_scarce() -> None:
    assert given_back("1000000") > 200 * 2**20
