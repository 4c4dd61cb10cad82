"""What networks and losses compute with: float32 at least, and sums over all workers that have gradients."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def full_precision(x: Tensor) -> Tensor:
    """Return x as float32, or as float64 if it is: half precision would hold images to 1/256 only."""
    return x if x.dtype == torch.float64 else x.float()


class _AllReduceSum(torch.autograd.Function):
    """Sum over all workers; its gradient is the same sum, so any number of derivatives may follow."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _AllReduceSum.apply(gradient)


def num_workers() -> int:
    """Return how many workers share each batch; 1 outside a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def all_reduce_sum(value: Tensor) -> Tensor:
    """Return the sum of every worker's `value`, all of one shape; gradients reach all workers.

    All workers must call it, also for each backward pass. There must be a process group.
    """
    return _AllReduceSum.apply(value)
