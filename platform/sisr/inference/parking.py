"""Where the features of an image's tiles wait between two layers: in memory as far as it reaches, then in a file."""

import errno
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from sisr.errors import DiskError


@dataclass
class Level:
    """One kind of memory."""

    device: torch.device
    free: float  # bytes


@dataclass
class _InFile:
    """A tensor that was written."""

    offset: int
    shape: torch.Size
    dtype: torch.dtype
    last: bool  # whether its channels lie next to each other
    num_bytes: int


@dataclass
class Parked:
    """What waits of one tile."""

    device: torch.device
    values: dict[Any, Any] = field(default_factory=dict)
    level: Level | None = None  # where it is; None: in the file
    num_bytes: int = 0


class Parking:
    """Keeps tensors by their keys, on the levels given as far as they have room, and beyond in a temporary file.

    The file lies where TMPDIR says, has no name, and is gone when the `with` block ends.
    """

    def __init__(self, levels: list[Level]) -> None:
        self._levels = levels
        self._file: Any = None
        self._end = 0
        self._holes: dict[int, list[int]] = defaultdict(list)  # offsets of places in the file that are free, by size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def put(self, values: Mapping[Any, Any]) -> Parked:
        """Keep values, of which some are tensors, all of these on one device, until they are taken.

        Raises:
            DiskError: There is no room for the file.
        """
        tensors = [value for value in values.values() if isinstance(value, Tensor)]
        device = tensors[0].device if tensors else torch.device("cpu")
        num_bytes = sum(tensor.nbytes for tensor in tensors)
        level = next((each for each in self._levels if num_bytes <= each.free), None)
        if level:
            level.free -= num_bytes
        kept = {k: self._kept(v, level) if isinstance(v, Tensor) else v for k, v in values.items()}
        return Parked(device, kept, level, num_bytes)

    def take(self, parked: Parked) -> dict[Any, Any]:
        """Return what was put, on its device; its place is free again."""
        if parked.level:
            parked.level.free += parked.num_bytes
        read = {k: self._read(v) if isinstance(v, _InFile) else v for k, v in parked.values.items()}
        parked.values = {}
        return {k: v.to(parked.device) if isinstance(v, Tensor) else v for k, v in read.items()}

    def _kept(self, value: Tensor, level: Level | None) -> Tensor | _InFile:
        if level is None:
            return self._written(value)
        # A view would keep all of what it is a view of.
        small = value.clone() if value.untyped_storage().nbytes() > value.nbytes else value
        return small.to(level.device)

    def _written(self, value: Tensor) -> _InFile:
        last = value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last)
        plain = (value.permute(0, 2, 3, 1) if last else value).contiguous().cpu()
        holes = self._holes[plain.nbytes]
        found = _InFile(holes.pop() if holes else self._end, value.shape, value.dtype, last, plain.nbytes)
        self._end = max(self._end, found.offset + plain.nbytes)
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="sisr-")  # noqa: SIM115
            self._file.seek(found.offset)
            self._file.write(plain.view(-1).view(torch.uint8).numpy().data)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise DiskError(
                f"{tempfile.gettempdir()} has no room for what an image's tiles keep between layers "
                f"({self._end / 2**30:.1f} GiB so far): point TMPDIR elsewhere, or shrink the image"
            ) from error
        return found

    def _read(self, place: _InFile) -> Tensor:
        data = torch.empty(place.num_bytes, dtype=torch.uint8)
        self._file.seek(place.offset)
        self._file.readinto(data.numpy().data)
        self._holes[place.num_bytes].append(place.offset)
        value = data.view(place.dtype)
        if not place.last:
            return value.view(place.shape)
        n, channels, height, width = place.shape
        return value.view(n, height, width, channels).permute(0, 3, 1, 2)
