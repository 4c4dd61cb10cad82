"""What the tests of a GPU share. All that can be run on a CPU, too, is, as `slow`: that proves the tests themselves."""

import shutil
from pathlib import Path

import pytest
import torch

from trained_runs import boards

WHERE = [pytest.param("cuda:0", marks=pytest.mark.gpu), pytest.param("cpu", marks=pytest.mark.slow)]


def require_gpus(count: int) -> None:
    """Skip the test where there are fewer GPUs."""
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if there < count:
        pytest.skip(f"needs {count} CUDA device{'s' if count > 1 else ''}, {there} here")


@pytest.fixture(params=WHERE)
def device(request: pytest.FixtureRequest) -> torch.device:
    """The GPU, or the CPU in its place."""
    if request.param != "cpu":
        require_gpus(1)
    return torch.device(request.param)


@pytest.fixture
def gpu() -> torch.device:
    """The GPU, for what a CPU can't stand in for; use together with the marker `gpu`."""
    require_gpus(1)
    return torch.device("cuda:0")


@pytest.fixture
def compiler(device: torch.device) -> str:
    """The backend of `torch.compile` on the device: on a CPU the one that needs no minute."""
    if device.type == "cpu":
        return "aot_eager"
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        pytest.skip("torch.compile needs a C compiler: none here")
    return "inductor"


@pytest.fixture
def float32_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep convolutions from computing float32 in TF32, which is PyTorch's default and has 10 bits of mantissa."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of 64x64 px."""
    return boards(tmp_path_factory.mktemp("images") / "boards", seed=0, count=8)
