"""Optimizers without torch's compiler."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import torch
from sisr.training.eager import import_compiler_beside, leave_out_compiler

leave_out_compiler()
network = torch.nn.Linear(2, 2)
adam = torch.optim.Adam(network.parameters(), 0.1)
adam.load_state_dict(adam.state_dict())
adam.zero_grad()
print("torch._dynamo" in sys.modules)
import_compiler_beside()
network(torch.ones(1, 2)).sum().backward()
before = network.weight.clone()
adam.step()
print("torch._dynamo" in sys.modules, torch.allclose(before - network.weight, torch.full((2, 2), 0.1)))
"""


@pytest.mark.slow
def test_optimizers_are_built_and_restored_without_torch_s_compiler_and_step_as_ever() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines() == ["False", "True True"], done.stderr
