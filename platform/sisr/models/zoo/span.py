"""SPAN's convolution, which is three in training, as the one that they amount to.

Wan et al., "Swift Parameter-free Attention Network", 2024. https://arxiv.org/abs/2311.12770
spandrel's class computes with all three in training, and in evaluation writes their product into a parameter at every
call: that parameter would never be what the optimizer, the average and a checkpoint take it for. Here the kernel is the
product wherever the network computes, as a function of the weights that gradients flow through, and is written into the
parameter only where weights are saved.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NAME = "Conv3XC"  # of spandrel's class


class OneKernel(nn.Module):
    """What such a convolution has beside its own class."""

    conv: nn.Sequential
    sk: nn.Conv2d
    eval_conv: nn.Conv2d
    stride: int
    has_relu: bool
    folded = False  # whether the kernel was computed once and for all

    def kernel(self) -> tuple[Tensor, Tensor]:
        """Return the 3x3 kernel (out, in, 3, 3) and bias (out,) that 1x1, 3x3, 1x1 and the 1x1 beside them make."""
        (w1, b1), (w2, b2), (w3, b3), (side, b4) = ((layer.weight, layer.bias) for layer in (*self.conv, self.sk))
        inner = torch.einsum("mnkl,ni->mikl", w2, w1[:, :, 0, 0])
        weight = torch.einsum("om,mikl->oikl", w3[:, :, 0, 0], inner) + F.pad(side, (1, 1, 1, 1))
        return weight, w3[:, :, 0, 0] @ (w2.sum((2, 3)) @ b1 + b2) + b3 + b4

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (n, out, h, w) of x (n, in, h, w)."""
        weight, bias = (self.eval_conv.weight, self.eval_conv.bias) if self.folded else self.kernel()
        out = F.conv2d(x, weight, bias, stride=self.stride, padding=1)
        return F.leaky_relu(out, 0.05) if self.has_relu else out

    @torch.no_grad()
    def write_kernel(self) -> None:
        """Put the kernel into the parameter that other programs read."""
        weight, bias = self.kernel()
        self.eval_conv.weight.copy_(weight)
        cast(Tensor, self.eval_conv.bias).copy_(bias)

    def _save_to_state_dict(self, *args: Any) -> None:
        if not self.folded:
            self.write_kernel()
        super()._save_to_state_dict(*args)


def with_one_kernel(network: nn.Module) -> None:
    """Give all such convolutions of a network, if any, one kernel; what only holds their product is not trained."""
    for module in network.modules():
        if type(module).__name__ == NAME:
            original = type(module)
            module.__class__ = type(NAME, (OneKernel, original), {"__doc__": original.__doc__})
            cast(OneKernel, module).eval_conv.requires_grad_(False)


def fold(network: nn.Module) -> Any:
    """Compute all such kernels once and for all, and return the network."""
    for module in network.modules():
        if isinstance(module, OneKernel):
            module.write_kernel()
            module.folded = True
    return network
