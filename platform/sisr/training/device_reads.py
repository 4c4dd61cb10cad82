"""How often the host asks for a number that the device has computed, and so waits for all that the device has to do."""

from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

READS = {torch.ops.aten._local_scalar_dense, torch.ops.aten.is_nonzero}  # item(), float(), bool(), `if tensor:`


class DeviceReads:
    """Counts them inside a `with` block, also on a CPU, where they cost nothing."""

    def __init__(self) -> None:
        self.count = 0
        self._modes = (_Operations(self), _Lists(self))

    def __enter__(self) -> Self:
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)


class _Operations(TorchDispatchMode):
    def __init__(self, reads: DeviceReads) -> None:
        super().__init__()
        self._reads = reads

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._reads.count += func.overloadpacket in READS
        return func(*args, **(kwargs or {}))


class _Lists(TorchFunctionMode):
    """Sees `tolist`, which on a CPU reads memory without an operation."""

    def __init__(self, reads: DeviceReads) -> None:
        super().__init__()
        self._reads = reads

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._reads.count += func is Tensor.tolist
        return func(*args, **(kwargs or {}))
