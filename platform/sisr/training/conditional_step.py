"""An optimizer's step that leaves everything as it is where a number on the device says so; the host needn't know."""

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer


def step_unless(bad: Tensor, optimizer: Optimizer, *, begun: bool) -> bool:
    """Step `optimizer`, unless `bad` is 1; its parameters and its state are then what they were before.

    A fused Adam takes `bad` to its kernel. Of any other optimizer the values before and after are held, and one of
    both chosen on the device. What it makes at its first step can't be taken back in this way, nor what it holds on the
    host: the host then waits for `bad`.

    Args:
        bad: A float32 scalar, 0 or 1, on the parameters' device.
        optimizer: Its parameters hold their gradients.
        begun: Whether this process has seen it step, so that all of its state is there.

    Returns:
        Whether `begun` holds from now on.
    """
    if isinstance(optimizer, Adam) and all(group["fused"] for group in optimizer.param_groups):
        optimizer.found_inf = bad  # type: ignore[attr-defined]  # as torch.amp.GradScaler does
        optimizer.step()
        del optimizer.found_inf  # type: ignore[attr-defined]
        return True
    held = _held(optimizer, bad.device) if begun else None
    if held is None:
        if bool(bad):
            return begun
        optimizer.step()
        return True
    before = [value.detach().clone() for value in held]
    optimizer.step()
    with torch.no_grad():
        for value, old in zip(held, before, strict=True):
            value.copy_(torch.where(bad.bool(), old, value))
    return True


def _held(optimizer: Optimizer, device: torch.device) -> list[Tensor] | None:
    """Return all that a step may change, or None where some of it is not a tensor on `device`."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state = [value for p in parameters for value in optimizer.state.get(p, {}).values()]
    values = [*parameters, *state]
    alike = all(isinstance(value, Tensor) and value.device == device for value in values)
    return values if alike else None
