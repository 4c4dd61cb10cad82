"""A training process asks for huge pages, from its first tensor on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

OFFERED = Path("/sys/kernel/mm/transparent_hugepage/enabled")
PROGRAM = """
import torch
import sisr.training.loop
tensor = torch.ones(16 * 2**20)
lines = open("/proc/self/smaps_rollup").read().splitlines()
print(next(line.split()[1] for line in lines if line.startswith("AnonHugePages")))
"""


@pytest.mark.skipif(
    not OFFERED.is_file() or "[madvise]" not in OFFERED.read_text(),
    reason="this kernel gives huge pages to all or to none",
)
def test_large_tensors_of_a_training_process_lie_in_huge_pages() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    assert int(done.stdout) >= 60 * 1024  # KiB, of a tensor of 64 MiB
