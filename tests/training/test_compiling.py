"""What a machine without a compiler is told before anything is built."""

import shutil
import sysconfig
from pathlib import Path

import pytest
import torch

from sisr.errors import ConfigError
from sisr.training.compiling import require_compiler

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with Python's headers and no programs; those put into this folder are found."""
    for variable in ("CC", "CXX"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sysconfig, "get_path", lambda *_: str(tmp_path))
    (tmp_path / "Python.h").touch()
    return tmp_path


def program(folder: Path, name: str) -> None:
    (folder / name).write_text("")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("device", "missing"), [(CPU, r"C\+\+ compiler.* g\+\+ "), (GPU, "C compiler.* gcc or clang ")]
)
def test_a_missing_compiler_is_answered_in_one_line_with_the_remedy(device: torch.device, missing: str) -> None:
    with pytest.raises(ConfigError, match=f"{missing}.*apt-get install .*compile=true") as error:
        require_compiler(device)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("device", "name"), [(CPU, "g++"), (GPU, "gcc"), (GPU, "clang")])
def test_each_compiler_that_torch_would_find_is_enough(programs: Path, device: torch.device, name: str) -> None:
    program(programs, name)
    require_compiler(device)


def test_a_compiler_that_a_variable_names_comes_first(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(programs, "g++")
    monkeypatch.setenv("CXX", "icpx -O3")
    with pytest.raises(ConfigError, match=r"\$CXX names 'icpx -O3', which is no program"):
        require_compiler(CPU)
    program(programs, "icpx")
    require_compiler(CPU)


def test_missing_headers_of_python_are_named(programs: Path) -> None:
    program(programs, "g++")
    (programs / "Python.h").unlink()
    with pytest.raises(ConfigError, match=f"{programs}/Python.h: apt-get install"):
        require_compiler(CPU)


def test_torch_itself_looks_for_the_compiler_that_is_asked_for() -> None:
    from torch._inductor import config

    assert config.cpp.cxx[1] in ("g++", "clang++") or shutil.which(config.cpp.cxx[1])
