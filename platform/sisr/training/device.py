"""What the device that trains can do: which one it is, the number formats it computes in, and its memory."""

import os
import resource
import sys
from contextlib import AbstractContextManager, nullcontext

import torch

from sisr.errors import ConfigError
from sisr.inference.memory import keep_freed_where_plenty
from sisr.training.run import Run


def choose_device() -> torch.device:
    """Return this process's device: the current GPU where torch can really use one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def resolve(name: str, device: torch.device) -> str:
    """Return the format that `auto` means on this device, or `name` itself.

    `auto` is bf16 where the hardware multiplies it faster than float32 (recent GPUs, CPUs with AVX512-BF16 or AMX),
    else fp32.

    Raises:
        ConfigError: The device can't compute in this format.
    """
    if name == "fp16" and device.type != "cuda":
        raise ConfigError("precision fp16 needs a CUDA device; on a CPU use bf16 or fp32")
    if name != "auto":
        return name
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if fast else "fp32"


def describe(device: torch.device, number_format: str) -> str:
    """Return where and how a worker computes, such as `NVIDIA L4, bf16` or `CPU, 2 threads, fp32`."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {number_format}"
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}, {number_format}"


def peak_memory(device: torch.device) -> int:
    """Return how many bytes this process has taken at most: of a GPU's memory, on a CPU of the machine's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else 1024 * used


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which a recipe's step runs; parameters stay as they are."""
    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16}
    if precision in dtypes:
        return torch.autocast(device.type, dtype=dtypes[precision])
    return nullcontext()


def set_up_process(device: torch.device, threads: int | None, exact: bool) -> None:
    """Prepare this process for training: its CPU threads (None: as they are), its memory, and how its GPU adds up.

    A GPU adds in one order only where it must be `exact`: then steps repeat exactly, and are somewhat slower. A CPU
    repeats itself anyway. What has no exact kernel on a GPU warns, and goes on.
    """
    if threads:
        torch.set_num_threads(threads)
    if device.type == "cpu":
        keep_freed_where_plenty(torch.get_num_threads())
    if exact:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when its first handle is made
    if exact != torch.are_deterministic_algorithms_enabled():  # asking is free, telling imports torch's compiler
        torch.use_deterministic_algorithms(exact, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing reads it


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a device's memory is used up; CPUs report it by a plain RuntimeError."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    signs = ("can't allocate memory", "out of memory", "status_alloc_failed")  # the last: cuBLAS and cuDNN
    return any(sign in str(error).lower() for sign in signs)


def memory_advice(run: Run, crop: int, examples: int, device: torch.device) -> str:
    """Return what took too much memory, and a setting that takes half of it.

    `crop` is the side of an hr example in pixels, `examples` their number in one worker's micro-batch.
    """
    peak = f", peak {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB" if device.type == "cuda" else ""
    halved = f"--option accumulate={run.options.accumulate * 2} halves it at the same batch"
    return (
        f"out of memory on {device} with {examples} examples of {crop}x{crop} px at a time{peak}: "
        f"{'a smaller batch_size' if examples % 2 else halved}; a smaller hr_crop or --precision bf16 helps, too"
    )
