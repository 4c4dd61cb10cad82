"""Numbers made on the CPU, brought to the device that trains."""

import torch
from torch import Tensor


def on_device(values: Tensor, device: torch.device) -> Tensor:
    """Return values, made on the CPU, on a device; the copy does not wait for the device's earlier work."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)
