"""From windows of pixels to hr examples, in batch, on the training device; and which windows are cut."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sisr.data.draws import Draws
from sisr.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Crop:
    """How one high-resolution training example is cut from a source image.

    A window of `source_side` pixels is taken at random (inside `box`, where given) and, where it is larger than
    `side`, averaged down to `side` pixels. Colour factors are uniform in 1 - x .. 1 + x (brightness: an offset in
    -x .. x), drawn once per example.
    """

    side: int  # px, of the hr example
    source_side: int | None = None  # px, of the window in the source image; None: side; a multiple of side
    box: tuple[int, int, int, int] | None = None  # px, (x, y, width, height) that windows stay in; None: whole image
    flip: bool = True  # left-right, with probability 1/2
    turn: bool = False  # transposed, with probability 1/2, and upside down, with probability 1/2
    rotate_degrees: float = 0.0  # rotated by an angle uniform in 0 .. this
    saturation: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0

    @property
    def window(self) -> int:
        """Side in pixels of the window cut from the source image."""
        return self.source_side or self.side

    def require_pairs(self, scale: int) -> None:
        """Raise ConfigError unless windows can be cut alike from hr and from a given lr, on whole pixels."""
        if self.window != self.side:
            raise ConfigError(
                f"the recipe averages windows of {self.window} px down to {self.side} px, and the lr of pairs belongs "
                "to the windows: make the two sides alike, or train on the originals alone"
            )
        if self.rotate_degrees:
            raise ConfigError(
                f"the recipe rotates examples by up to {self.rotate_degrees:g} degrees, and the lr of pairs has no "
                "pixels for that: set the angle to 0, or train on the originals alone"
            )
        if self.side % scale:
            raise ConfigError(f"pairs x{scale} need windows of a multiple of {scale} px, not of {self.side} px")
        for start, length in zip(self.box[:2], self.box[2:], strict=True) if self.box else ():
            if -(-start // scale) * scale + self.side > start + length:
                raise ConfigError(
                    f"pairs x{scale}: the box {self.box} holds no window of {self.side} px that begins at a multiple "
                    f"of {scale} px, as whole lr pixels do: make it larger"
                )


def to_hr(
    pixels: Tensor,
    crop: Crop,
    draws: Draws,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
) -> Tensor:
    """Return hr (n, 3, side, side) in [0, 1] of pixels, uint8 (n, window, window, 3), on their device.

    They are averaged to `side`, then saturation, brightness, contrast and rotation are changed as `crop` says. The
    arithmetic is float32, or float64 where that is the result's `dtype`.
    """
    hr = _floats(pixels, dtype)
    if crop.window != crop.side:
        hr = functional.avg_pool2d(hr, crop.window // crop.side)
    hr = _colour(hr, crop, draws)
    if crop.rotate_degrees:
        hr = rotate(hr, draws.uniform("rotate", high=crop.rotate_degrees).to(hr))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return hr.to(dtype).contiguous(memory_format=layout)


def to_lr(pixels: Tensor, crop: Crop, draws: Draws, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return lr (n, 3, h, w) in [0, 1] of pixels, uint8 (n, h, w, 3), that are given with hr, on their device.

    Saturation, brightness and contrast are changed by the factors that hr's are changed by. The crop is one of pairs,
    see `Crop.require_pairs`; otherwise as `to_hr`.
    """
    return _colour(_floats(pixels, dtype), crop, draws).to(dtype).contiguous()


def saturate(hr: Tensor, factor: Tensor) -> Tensor:
    """Return the images with HSV saturation multiplied by `factor` (n,) and clipped at 1; hue and value stay."""
    value = hr.amax(dim=1, keepdim=True)
    spread = value - hr.amin(dim=1, keepdim=True)
    limit = value / spread.clamp_min(1e-12)
    return value - (value - hr) * torch.minimum(factor.view(-1, 1, 1, 1), limit)


def rotate(hr: Tensor, degrees: Tensor) -> Tensor:
    """Return the images turned anticlockwise by `degrees` (n,), bicubic, clamped; corners are filled by reflection."""
    angle = torch.deg2rad(degrees)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    theta = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)
    grid = functional.affine_grid(theta, list(hr.shape), align_corners=False)
    turned = functional.grid_sample(hr, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return turned.clamp(0, 1)


def _floats(pixels: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the images (n, 3, h, w) in [0, 1] in which the arithmetic of a result of this type is done."""
    return pixels.permute(0, 3, 1, 2).to(torch.float64 if dtype == torch.float64 else torch.float32).div_(255)


def _colour(hr: Tensor, crop: Crop, draws: Draws) -> Tensor:
    if not (crop.saturation or crop.brightness or crop.contrast):
        return hr
    if crop.saturation:
        hr = saturate(hr, draws.uniform("saturation", low=1 - crop.saturation, high=1 + crop.saturation).to(hr))
    if crop.brightness:
        hr = hr + draws.uniform("brightness", 1, 1, 1, low=-crop.brightness, high=crop.brightness).to(hr)
    if crop.contrast:
        factor = draws.uniform("contrast", 1, 1, 1, low=1 - crop.contrast, high=1 + crop.contrast).to(hr)
        mean = hr.mean(dim=(2, 3), keepdim=True)
        hr = mean + (hr - mean) * factor
    return hr.clamp(0, 1)
