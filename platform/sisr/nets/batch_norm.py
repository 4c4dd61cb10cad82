"""Batch normalisation that is exact over all workers and twice differentiable."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from sisr.nets.numeric import all_reduce_sum, num_workers

MOMENTUM = 0.1  # share of the newest batch in the running statistics


class BatchNorm(nn.Module):
    """Batch normalisation over (n, h, w) with a shift and, where asked for, a scale.

    Ioffe & Szegedy, "Batch Normalization", 2015. https://arxiv.org/abs/1502.03167
    In training with several workers the statistics are those of the global batch: one step on two workers equals one
    step on one. They are computed in float32 at least. PyTorch's SyncBatchNorm has no second derivative and no CPU
    version, so a gradient penalty could not pass through it.

    `scale` learns a factor for each channel, too; `eps` is added to the variance. `batch_statistics` uses the batch's
    own statistics in evaluation also, as DCGANs of 2016 did: an image's result then depends on its neighbours.
    """

    running_mean: Tensor
    running_var: Tensor
    ones: Tensor | None

    def __init__(
        self, num_features: int, *, scale: bool = False, eps: float = 1e-3, batch_statistics: bool = False
    ) -> None:
        super().__init__()
        self.eps, self.batch_statistics = eps, batch_statistics
        self.weight = nn.Parameter(torch.ones(num_features)) if scale else None
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("ones", None if scale else torch.ones(num_features), persistent=False)
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        if self.training and num_workers() > 1:
            return self._over_all_workers(x)
        keep = self.training or not self.batch_statistics
        return F.batch_norm(
            x,
            self.running_mean if keep else None,
            self.running_var if keep else None,
            self._factor(x.device),
            self.bias,
            training=self.training or self.batch_statistics,
            momentum=MOMENTUM,
            eps=self.eps,
        )

    def _factor(self, device: torch.device) -> Tensor | None:
        """Return what each channel is multiplied by; None: nothing.

        On GPUs PyTorch forgets the gradient of a shift without a scale, where memory is laid out channels last: it
        returns one of size 0 (batch_norm_backward_reduce_cuda_channels_last_template), and the backward pass ends
        with an error.
        """
        return self.ones if self.weight is None and device.type == "cuda" else self.weight

    def _over_all_workers(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            wide = x if x.dtype == torch.float64 else x.float()
            mean, variance, count = _global_statistics(wide)
            self.running_mean.lerp_(mean.detach().to(self.running_mean.dtype), MOMENTUM)
            unbiased = variance.detach() * (count / (count - 1))
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), MOMENTUM)
            factor = torch.rsqrt(variance + self.eps)
            if self.weight is not None:
                factor = factor * self.weight
            normal = (wide - mean[:, None, None]) * factor[:, None, None] + self.bias[:, None, None]
        return normal.to(x.dtype)


def _global_statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean and biased variance (channels,) over every worker's x (n, channels, h, w), and the count.

    Workers exchange (count, mean, variance) and combine them by the parallel form of Chan et al., 1983, which loses no
    digits where the mean is large. One collective; the shards may differ in size.
    """
    channels = x.shape[1]
    variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
    count = x.new_full((1,), x.numel() // channels)
    table = x.new_zeros(num_workers(), 1 + 2 * channels)
    own = torch.arange(len(table), device=x.device) == dist.get_rank()
    table = all_reduce_sum(table + own.to(x.dtype)[:, None] * torch.cat([count, mean, variance]))

    counts, means, variances = table[:, :1].detach(), table[:, 1 : 1 + channels], table[:, 1 + channels :]
    share = counts / counts.sum()
    mean = (share * means).sum(0)
    variance = (share * (variances + (means - mean).square())).sum(0)
    return mean, variance, counts.sum()
