"""How far a network looks around each pixel, found by watching one forward pass."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

PROBE_SIDE = 24  # px, of the lr on which a network is watched

# Operations that mix no pixels, as far as tensors of images (n, c, h, w) go; convolutions and resizing count apart.
LOCAL = frozenset(
    [
        *("add", "add_", "sub", "sub_", "rsub", "mul", "mul_", "div", "div_", "neg", "abs", "pow", "sqrt", "exp"),
        *("clamp", "clamp_", "clamp_min", "clamp_max", "where", "relu", "relu_", "leaky_relu", "leaky_relu_", "prelu"),
        *("_prelu_kernel", "gelu", "silu", "silu_", "mish", "mish_", "hardtanh", "hardtanh_", "hardswish", "elu"),
        *("sigmoid", "sigmoid_", "tanh", "tanh_", "softplus", "dropout", "native_batch_norm", "batch_norm"),
        *("cudnn_batch_norm", "_native_batch_norm_legit_no_training", "cat", "split", "split_with_sizes", "chunk"),
        *("pixel_shuffle", "upsample_nearest2d", "clone", "copy_", "detach", "alias", "_to_copy"),
        *("to", "contiguous", "lift_fresh", "zeros_like", "ones_like", "full_like"),
    ]
)
INTERPOLATED = {"upsample_bilinear2d": 1, "upsample_bicubic2d": 2}  # px of its input that an output looks past its own


def receptive_radius(network: nn.Module, side: int = PROBE_SIDE) -> int | None:
    """Return lr px that are enough context on each side of an output pixel; None: it may depend on all of the image.

    What all convolutions look past their own pixel is added up, each on the scale that it works at: exact where they
    follow one another, too much where they work side by side. A network that does anything else between pixels
    (attention, averages, normalisation by the image's own statistics, strides) is not followed.

    Args:
        network: lr (n, 3, h, w) -> sr.
        side: px, of the lr on which it is watched.
    """
    like = next(network.parameters(), torch.empty(0))
    lr = torch.full((1, 3, side, side), 0.5, dtype=like.dtype, device=like.device)
    with torch.inference_mode(), _Watch(side) as watch:
        network(lr)
    return math.ceil(watch.radius) if watch.is_local else None


class _Watch(TorchDispatchMode):
    """Adds up how far convolutions look, in px of the image, and notices what mixes pixels otherwise."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side
        self.radius = 0.0
        self.is_local = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("convolution", "conv2d"):
            self._convolution(args[0], args[1], _geometry(name, args, kwargs or {}))
        elif name in INTERPOLATED:
            self.radius += INTERPOLATED[name] * self._lr_px(args[0])
        elif name == "pixel_unshuffle":
            self.radius += (args[1] - 1) * self._lr_px(args[0])
        elif name not in LOCAL:
            self.is_local = False
        return func(*args, **(kwargs or {}))

    def _convolution(self, x: Tensor, weight: Tensor, geometry: tuple[Any, Any, Any, bool]) -> None:
        stride, padding, dilation, transposed = geometry
        sizes = weight.shape[2:]
        looks = [(size - 1) // 2 * step for size, step in zip(sizes, dilation, strict=True)]
        # Only one that leaves the size as it is looks equally far to both sides.
        if transposed or set(stride) != {1} or list(padding) != looks or any(size % 2 == 0 for size in sizes):
            self.is_local = False
        self.radius += max(looks) * self._lr_px(x)

    def _lr_px(self, x: Tensor) -> float:
        """Return how many px of lr one px of `x` is wide."""
        return self.side / x.shape[-1]


def _geometry(name: str, args: Any, kwargs: dict[str, Any]) -> tuple[Any, Any, Any, bool]:
    """Return stride, padding, dilation and whether it is transposed, as lists of two."""
    if name == "convolution":
        stride, padding, dilation, transposed = args[3:7]
        return stride, padding, dilation, transposed
    names = ("bias", "stride", "padding", "dilation")
    given = dict(zip(names, args[2:6], strict=False)) | kwargs
    return given.get("stride", [1, 1]), given.get("padding", [0, 0]), given.get("dilation", [1, 1]), False
