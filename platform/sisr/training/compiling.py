"""Compiled networks, and whether this machine has what torch needs for them: a compiler, and Python's headers."""

import os
import shutil
import sysconfig
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from sisr.errors import ConfigError

# The compilers that torch (on a CPU, by inductor) and triton (on a GPU) look for, after the one that a variable names.
LOOKED_FOR = {"cpu": ("CXX", "C++", ("g++",)), "cuda": ("CC", "C", ("gcc", "clang"))}
REMEDY = "apt-get install g++ python3-dev, or leave compile=true out"


def compile_networks(networks: Iterable[nn.Module], device: torch.device) -> None:
    """Let networks on a device be compiled at their first call.

    Raises:
        ConfigError: This machine lacks something for that.
    """
    require_compiler(device)
    for network in networks:
        network.compile()


def require_compiler(device: torch.device) -> None:
    """Return where networks on a device can be compiled.

    Raises:
        ConfigError: The compiler or Python's headers are missing; the message says how to get them.
    """
    if device.type not in LOOKED_FOR:
        return
    variable, language, programs = LOOKED_FOR[device.type]
    named = os.environ.get(variable)
    # $CXX and $CC may hold options, too, such as `ccache g++`.
    if not any(shutil.which(program) for program in (named.split()[:1] if named else programs)):
        found = f"${variable} names '{named}', which is no program" if named else f"there is no {' or '.join(programs)}"
        raise ConfigError(f"compile=true needs a {language} compiler, and {found} here: {REMEDY}")
    folders = [Path(sysconfig.get_path("include", scheme)) for scheme in sysconfig.get_scheme_names()]
    if not any((folder / "Python.h").is_file() for folder in [Path(sysconfig.get_path("include")), *folders]):
        place = sysconfig.get_path("include")
        raise ConfigError(f"compile=true needs Python's headers, and there is no {place}/Python.h: {REMEDY}")
