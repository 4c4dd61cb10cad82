"""Networks compiled, or captured as CUDA graphs, and whether this machine has what torch needs for it.

Of a small network on a GPU most of the time goes into launching its kernels one by one. A captured one launches all of
a pass at once: torch's backend `cudagraphs` records what each network does forward and backward, with shapes that never
change, and plays it again. Losses, optimizers and learning rates stay outside, and are as they always are. Second
derivatives don't go through captured networks: gradient penalties call `forward` itself.
"""

import importlib
import os
import shutil
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sisr.errors import ConfigError
from sisr.training.options import Options

# The compilers that torch (on a CPU, by inductor) and triton (on a GPU) look for, after the one that a variable names.
LOOKED_FOR = {"cpu": ("CXX", "C++", ("g++",)), "cuda": ("CC", "C", ("gcc", "clang"))}
REMEDY = "apt-get install g++ python3-dev, or leave compile=true out"


CAPTURING = "cudagraphs"  # torch's backend: the kernels that would run anyway, and needs no compiler


def speed_up(
    networks: Iterable[nn.Module], device: torch.device, options: Options, say: Callable[[str], None]
) -> Callable[[], None]:
    """Let networks on a device be compiled, captured, or both, at their first call, as `options` ask.

    Returns:
        What is to be called at the beginning of each pass through the networks, whose earlier outputs are lost then.

    Raises:
        ConfigError: This machine lacks what compiling needs. What capturing needs, and is not there, `say` is told.
    """
    if options.compile:
        require_compiler(device)
    problem = obstacle_to_capture(device) if options.capture == "auto" else None
    if problem:
        say(f"capture=auto: steps are not captured: {problem}")
    captured = options.capture == "auto" and problem is None
    if not (options.compile or captured):
        return lambda: None
    # Of activations that a backward pass may overwrite: recipes take two gradients through one forward pass.
    functorch: Any = importlib.import_module("torch._functorch.config")
    functorch.donated_buffer = False
    for network in networks:
        if options.compile:
            network.compile(mode="reduce-overhead" if captured else None)
        else:
            network.compile(backend=CAPTURING)
    return torch.compiler.cudagraph_mark_step_begin if captured else lambda: None


def obstacle_to_capture(device: torch.device) -> str | None:
    """Return in words why nothing can be captured on a device, or None where it can: a small graph was."""
    if device.type != "cuda":
        return "this needs a GPU of NVIDIA"
    try:
        value, graph = torch.zeros(8, device=device), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            value += 1
        graph.replay()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return None if float(value[0]) == 1.0 else "a graph that was tried computed a wrong value"


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
