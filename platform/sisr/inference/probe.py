"""What a generator takes and costs, and how far it looks around a pixel, found by watching one small forward pass."""

import math
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sisr.recipe import Generator

MEMORY_SIDE = 32  # px, of the lr on which memory is measured
COST_SIDE = 64  # px, of the lr for which multiply-adds are counted
PROBE_SIDE = 24  # px, of the lr on which a network is watched
OVERHEAD = 2.0  # tensors kept for skip connections and the convolutions' own workspace, as a factor on the largest step

# Inference mode shows the one, other modes the other.
_GROUP_NORMS = (torch.ops.aten.group_norm, torch.ops.aten.native_group_norm)

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


@dataclass(frozen=True)
class Footprint:
    """Of a generator, whatever the image's size."""

    bytes_per_px: float  # of memory at the peak, per px of lr: an estimate
    num_group_norms: int  # calls of group normalisation


_measured: WeakKeyDictionary[nn.Module, Footprint] = WeakKeyDictionary()


@torch.inference_mode()
def footprint(generator: Generator) -> Footprint:
    """Return a generator's footprint; measured once per generator."""
    if generator not in _measured:
        side = generator.tiling.padded(MEMORY_SIDE)
        lr = grey_lr(generator, side, side)
        with _Watch() as watch:
            generator(lr)
        _measured[generator] = Footprint(OVERHEAD * watch.most_bytes / side**2, watch.num_group_norms)
    return _measured[generator]


@torch.no_grad()  # not inference_mode, in which the counter does not see convolutions
def multiply_adds(generator: Generator) -> int:
    """Return how many multiplications with an addition one lr image of 64x64 px takes.

    Convolutions, matrix products and attention count; resampling, activations and normalisations do not. The image is
    larger where the generator does not take this size.
    """
    side = generator.tiling.padded(COST_SIDE)
    from torch.utils.flop_counter import FlopCounterMode  # imports Triton, which no trainer needs

    with FlopCounterMode(display=False) as counter:
        generator(grey_lr(generator, side, side))
    return counter.get_total_flops() // 2


def grey_lr(network: nn.Module, height: int, width: int) -> Tensor:
    """Return a grey lr image in a network's type and on its device."""
    like = next(network.parameters(), torch.empty(0))
    return torch.full((1, 3, height, width), 0.5, dtype=like.dtype, device=like.device)


class _Watch(TorchDispatchMode):
    """Remembers the largest sum of one operation's inputs and outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.most_bytes = 0
        self.num_group_norms = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, Tensor)]
        self.most_bytes = max(self.most_bytes, sum(t.nbytes for t in tensors if not isinstance(t, nn.Parameter)))
        self.num_group_norms += func.overloadpacket in _GROUP_NORMS
        return out


def receptive_radius(network: nn.Module, side: int = PROBE_SIDE) -> int | None:
    """Return lr px that are enough context on each side of an output pixel; None: it may depend on all of the image.

    What all convolutions look past their own pixel is added up, each on the scale that it works at: exact where they
    follow one another, too much where they work side by side. A network that does anything else between pixels
    (attention, averages, normalisation by the image's own statistics, strides) is not followed. It is watched on an lr
    of `side` px.
    """
    lr = grey_lr(network, side, side)
    with torch.inference_mode(), _Reach(side) as reach:
        network(lr)
    return math.ceil(reach.radius) if reach.is_local else None


class _Reach(TorchDispatchMode):
    """Adds up how far convolutions look, in px of the image, and notices what mixes pixels otherwise."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side
        self.radius = 0.0
        self.is_local = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("convolution", "conv2d"):
            self._convolution(args[0], args[1], *_geometry(name, args, kwargs or {}))
        elif name in INTERPOLATED:
            self.radius += INTERPOLATED[name] * self._lr_px(args[0])
        elif name == "pixel_unshuffle":
            self.radius += (args[1] - 1) * self._lr_px(args[0])
        elif name not in LOCAL:
            self.is_local = False
        return func(*args, **(kwargs or {}))

    def _convolution(
        self, x: Tensor, weight: Tensor, stride: Any, padding: Any, dilation: Any, transposed: bool
    ) -> None:
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
        return args[3:7]
    given = dict(zip(("bias", "stride", "padding", "dilation"), args[2:6], strict=False)) | kwargs
    return given.get("stride", [1, 1]), given.get("padding", [0, 0]), given.get("dilation", [1, 1]), False
