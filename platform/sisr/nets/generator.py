"""What every generator is: a network that makes sr of lr, and says how it may be applied to images of any size."""

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from sisr.errors import ConfigError


@dataclass(frozen=True)
class Tiling:
    """How a generator may be applied, in lr px unless stated otherwise; raises ValueError for what can't be."""

    scale: int  # sr side / lr side
    halo: int | None  # how far an output pixel looks to each side; None: its value may depend on the whole image
    size_multiple: int = 1  # both sides of lr must be multiples of it
    minimum: int = 1  # both sides of lr must be at least this

    def __post_init__(self) -> None:
        for name, least in {"scale": 1, "halo": 0, "size_multiple": 1, "minimum": 1}.items():
            value = getattr(self, name)
            if name == "halo" and value is None:
                continue
            if type(value) is not int or value < least:
                also = "None or " if name == "halo" else ""
                raise ValueError(f"a generator's {name} must be {also}a whole number >= {least}, got {value!r}")

    def padded(self, side: int) -> int:
        """Return the shortest side of at least `side` px that the generator takes."""
        return round_up(max(side, self.minimum), self.size_multiple)


class Generator(nn.Module):
    """A network from lr (n, 3, h, w), RGB in [0, 1], to sr (n, 3, scale * h, scale * w), which need not be clamped.

    A subclass sets `tiling` in its constructor.
    """

    tiling: Tiling

    def require_images(self, lr: Tensor) -> None:
        """Raise ValueError unless `lr` is a batch of RGB images of a size that the generator takes."""
        if lr.ndim != 4 or lr.shape[1] != 3:
            raise ValueError(f"generator wants RGB images (n, 3, h, w), got {tuple(lr.shape)}")
        height, width = lr.shape[2:]
        multiple, minimum = self.tiling.size_multiple, self.tiling.minimum
        if height % multiple or width % multiple:
            raise ValueError(f"generator wants height and width to be multiples of {multiple}, got {height}x{width}")
        if min(height, width) < minimum:
            raise ValueError(f"generator wants at least {minimum}x{minimum} pixels, got {height}x{width}")


def as_generator(network: nn.Module, tiling: Tiling | None = None) -> Generator:
    """Return the network itself, which has a `tiling` from now on: the one given, else its own.

    Runs and models hold the texts of recipes that were written before there was `Tiling`: their generators are plain
    modules with the attributes `scale`, `halo` and `size_multiple`, and go on working.

    Raises:
        ConfigError: It has neither a `tiling` nor these attributes.
    """
    generator = cast("Generator", network)
    if tiling is not None:
        generator.tiling = tiling
    elif not isinstance(getattr(network, "tiling", None), Tiling):
        old = {name: getattr(network, name) for name in ("scale", "halo", "size_multiple") if hasattr(network, name)}
        if len(old) < 3:
            raise ConfigError(
                f"the generator {type(network).__name__} does not say how it may be tiled: derive it from "
                "sisr.recipe.Generator and set self.tiling = Tiling(scale=..., halo=...)"
            )
        try:
            generator.tiling = Tiling(**old)
        except ValueError as error:
            raise ConfigError(f"{type(network).__name__}: {error}") from error
    return generator


def small_kaiming(network: nn.Module, factor: float) -> None:
    """Set the weights of all convolutions to Kaiming normals times `factor`, their biases to 0.

    Wang et al., "ESRGAN", 2018, section 3.2: small weights are what deep residual networks train well from.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            module.weight.data.mul_(factor)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def round_up(size: int, multiple: int) -> int:
    """Return the least multiple of `multiple` that is at least `size`."""
    return -(-size // multiple) * multiple
