"""What the device that trains can do: which one it is, the number formats it computes in, and its memory."""

from contextlib import AbstractContextManager, nullcontext

import torch

from sisr.errors import ConfigError
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


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which a recipe's step runs; parameters stay as they are."""
    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16}
    if precision in dtypes:
        return torch.autocast(device.type, dtype=dtypes[precision])
    return nullcontext()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a device's memory is used up; CPUs report it by a plain RuntimeError."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return "can't allocate memory" in str(error) or "out of memory" in str(error).lower()


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
