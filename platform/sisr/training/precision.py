"""Number formats: which one a run uses, and the contexts that follow from it."""

from contextlib import AbstractContextManager, nullcontext

import torch

from sisr.errors import ConfigError


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
    return "bf16" if _has_fast_bf16(device) else "fp32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which a recipe's step runs; parameters stay as they are."""
    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16}
    if precision in dtypes:
        return torch.autocast(device.type, dtype=dtypes[precision])
    return nullcontext()


def parameter_dtype(precision: str) -> torch.dtype:
    """Return the type of parameters and images: float64 for fp64, else float32."""
    return torch.float64 if precision == "fp64" else torch.float32


def _has_fast_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False
